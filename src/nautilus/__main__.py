"""`python -m nautilus` is the `nautilus` command."""

from nautilus.cli import app

app()
