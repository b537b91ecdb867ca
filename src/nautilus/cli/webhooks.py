"""`nautilus webhooks`: those that were given up, of all tenants. Imports late, so that `--help` is instant."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nautilus.cli.console import fail, notes
from nautilus.errors import NautilusError

webhooks = typer.Typer(help="Webhooks that were given up.", no_args_is_help=True, rich_markup_mode="rich")


@webhooks.command()
def dead(limit: Annotated[int, typer.Option(help="How many at most, the newest first.", min=1)] = 100) -> None:
    """List webhooks that were given up, and why."""
    try:
        letters = asyncio.run(_dead(limit))
    except NautilusError as error:
        raise fail(error) from error
    table = Table("Webhook", "Since", "Tenant", "Job", "URL", "Attempts", "Reason", box=None, header_style="bold")
    for one in letters:
        since = datetime.fromtimestamp(one.created_at, UTC).strftime("%Y-%m-%d %H:%M")
        table.add_row(one.id, since, one.tenant, one.job, one.url, str(one.attempts), one.error or "")
    Console(highlight=False).print(table)


@webhooks.command()
def redeliver(ids: Annotated[list[str], typer.Argument(help="Ids of webhooks.")]) -> None:
    """Have webhooks sent again, with the same ids and all of their attempts, by a server that runs."""
    try:
        asyncio.run(_redeliver(ids))
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {len(ids)} on their way")


async def _dead(limit: int) -> Sequence[Any]:
    from nautilus.jobs.letters import DeadLetters
    from nautilus.settings import load_settings
    from nautilus.storage.database import open_database
    from nautilus.storage.place import database_url

    async with open_database(database_url(load_settings().storage)) as database:
        letters, _ = await DeadLetters(database).page(None, None, limit)
        return letters


async def _redeliver(ids: Sequence[str]) -> None:
    from nautilus.jobs.letters import DeadLetters
    from nautilus.settings import load_settings
    from nautilus.storage.database import open_database
    from nautilus.storage.place import database_url

    async with open_database(database_url(load_settings().storage)) as database:
        for delivery in ids:
            await DeadLetters(database).redeliver(None, delivery)
