"""`nautilus keys`: API keys of the database, without a server. Imports late, so that `--help` is instant."""

import asyncio
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nautilus.cli.console import fail, notes
from nautilus.errors import BadRequestError, NautilusError

keys = typer.Typer(help="API keys: who may ask the server.", no_args_is_help=True, rich_markup_mode="rich")

ACTOR = "nautilus keys"
"""Who did it, in the audit."""
UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}

KeyArgument = Annotated[str, typer.Argument(help="The key's id, as `nautilus keys list` shows it.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for; you will see it in the list.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs, results and usage it sees.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option("--scope", "-s", help="transcribe, stream, jobs or admin; repeatable.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", "-l", help="Like requests_per_minute=60; repeatable.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After how long it ends: 12h, 90d or 52w.")] = None,
) -> None:
    """Make a key and print it: the only time that it is seen. Without --scope: transcribe, stream and jobs."""
    from nautilus.access import store
    from nautilus.access.keys import USUAL_SCOPES, check_limits, check_name, check_scopes, check_tenant

    try:
        now = time.time()
        wanted = store.Wanted(
            tenant=check_tenant(tenant),
            name=check_name(name),
            scopes=check_scopes(scope or USUAL_SCOPES),
            limits=check_limits(dict(map(_limit, limit or []))),
            expires_at=None if expires is None else now + _seconds(expires),
        )
        made = _with_database(lambda database: store.create(database, wanted, ACTOR, now))
    except NautilusError as error:
        raise fail(error) from error
    _show(made)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the keys, the oldest first."""
    from nautilus.access import store
    from nautilus.access.document import key_document

    try:
        found = _with_database(lambda database: store.listed(database, tenant))
    except NautilusError as error:
        raise fail(error) from error
    documents = [key_document(key, time.time()) for key in found]
    if as_json:
        import json

        sys.stdout.write(json.dumps(documents, indent=2) + "\n")
    else:
        Console(highlight=False).print(_table(documents))


@keys.command()
def revoke(key: KeyArgument) -> None:
    """End a key for good: servers refuse it within two seconds."""
    from nautilus.access import store

    try:
        _with_database(lambda database: store.revoke(database, key, ACTOR, time.time()))
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {key} is revoked")


@keys.command()
def rotate(
    key: KeyArgument,
    grace: Annotated[str, typer.Option(help="How long the old key stays valid: 0h, 12h, 7d.")] = "1d",
) -> None:
    """Replace a key by a new one that may the same, and print that."""
    from nautilus.access import store

    try:
        seconds = _seconds(grace)
        made = _with_database(lambda database: store.rotate(database, key, ACTOR, time.time(), seconds))
    except NautilusError as error:
        raise fail(error) from error
    _show(made)


def _with_database(work: Any) -> Any:
    """Run `work` on the database of the settings."""
    from nautilus.settings import load_settings
    from nautilus.storage.database import open_database
    from nautilus.storage.place import database_url

    async def run() -> Any:
        async with open_database(database_url(load_settings().storage)) as database:
            return await work(database)

    return asyncio.run(run())


def _show(made: Any) -> None:
    sys.stdout.write(made.value + "\n")  # alone on standard output, for scripts
    notes.print(f"[green]✓[/green] {made.key.id}: {', '.join(made.key.scopes)} of tenant {made.key.tenant}.")
    notes.print("Keep the key now; only its digest is stored.")


def _table(documents: list[dict[str, Any]]) -> Table:
    table = Table("id", "key", "name", "tenant", "scopes", "status", "used", box=None, header_style="bold")
    for one in documents:
        used = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one["used_at"])) if one["used_at"] else "never"
        scopes = " ".join(one["scopes"])
        table.add_row(one["id"], f"{one['prefix']}_…", one["name"], one["tenant"], scopes, one["status"], used)
    return table


def _limit(given: str) -> tuple[str, Any]:
    name, _, value = given.partition("=")
    return name, value


def _seconds(given: str) -> float:
    number, unit = given[:-1], given[-1:]
    if not number.isdecimal() or unit not in UNITS or len(number) > 5:  # noqa: PLR2004 - digits
        raise BadRequestError(f"'{given}' is no duration: write a whole number and h, d or w, like 90d.")
    return float(int(number) * UNITS[unit])
