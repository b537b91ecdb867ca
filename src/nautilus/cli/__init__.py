"""The command line: what people type, and how it looks. Knows settings, the core and the web; nothing knows it."""

from nautilus.cli.commands import app

__all__ = ["app"]
