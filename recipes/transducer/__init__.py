"""Small transducers on the embedded model's encoder, for tests of what random weights say nothing about."""
