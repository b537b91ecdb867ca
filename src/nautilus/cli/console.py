"""What every command says beside its results, on standard error."""

from typing import Final

import typer
from rich.console import Console

from nautilus.errors import NautilusError

notes: Final = Console(stderr=True, highlight=False)


def fail(error: NautilusError) -> typer.Exit:
    """Print an error for people and return the exit that goes with it."""
    notes.print("[red]Error:[/red]", end=" ")
    notes.print(str(error), markup=False, soft_wrap=True)
    return typer.Exit(1)
