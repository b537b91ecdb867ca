"""`nautilus db`: the schema of the database, the keys of the blobs. Imports late, so that `--help` is instant."""

import asyncio

import typer
from rich.console import Console

from nautilus.cli.console import fail, notes
from nautilus.errors import NautilusError

database = typer.Typer(
    help="The database: its schema; and encryption of what is stored.", no_args_is_help=True, rich_markup_mode="rich"
)


@database.command()
def upgrade() -> None:
    """Bring the database's schema up to date. Stop the servers of older versions first, and make a back-up."""
    try:
        before, after = asyncio.run(_upgrade())
    except NautilusError as error:
        raise fail(error) from error
    notes.print(
        f"[green]✓[/green] schema {after}" + (", as before" if before == after else f", was {before or 'none'}")
    )


@database.command()
def status() -> None:
    """Tell which schema the database has. Ends with 1 where a server would not start on it."""
    try:
        lines, current = asyncio.run(_status())
    except NautilusError as error:
        raise fail(error) from error
    Console(highlight=False, soft_wrap=True).print(lines)
    raise typer.Exit(0 if current else 1)


@database.command()
def reseal() -> None:
    """Encrypt every stored blob with the first encryption key. After a new key, or after encryption was turned on."""
    try:
        done, seen = asyncio.run(_reseal())
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {done} of {seen} blobs sealed anew")


async def _upgrade() -> tuple[str | None, str | None]:
    from nautilus.settings import load_settings
    from nautilus.storage.database import open_database
    from nautilus.storage.place import database_url

    async with open_database(database_url(load_settings().storage), check=False) as opened:
        before = await opened.revision()
        await opened.upgrade()
        return before, await opened.revision()


async def _status() -> tuple[str, bool]:
    from nautilus.settings import load_settings
    from nautilus.storage.database import SCHEMA, State, open_database
    from nautilus.storage.place import database_url

    async with open_database(database_url(load_settings().storage), check=False) as opened:
        revision, state = await opened.revision(), await opened.state()
        return f"{opened.address}\nschema {revision or 'none'}, needed {SCHEMA}: {state.value}", state is State.CURRENT


async def _reseal() -> tuple[int, int]:
    from nautilus.errors import ConfigurationError
    from nautilus.settings import load_settings
    from nautilus.storage.place import blobs_of
    from nautilus.storage.sealed import SealedBlobs

    blobs = blobs_of(load_settings().storage)
    if not isinstance(blobs, SealedBlobs):
        raise ConfigurationError("There is no encryption key; set NAUTILUS_STORAGE__ENCRYPTION_KEYS.")
    return await blobs.reseal_all()
