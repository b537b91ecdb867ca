"""Files that ship inside the package: the embedded model and the speech detector."""
