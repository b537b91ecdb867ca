"""The record of what was deleted and changed, and by whom. Rows are written, never changed."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.storage.tables import audit

ALL: Final = "*"
"""The tenant of what concerns many."""


async def audited(
    connection: AsyncConnection, now: float, actor: str, action: str, what: Iterable[tuple[str, str]]
) -> None:
    """Write down that `actor` did `action` to each (tenant, subject), in the transaction in which it is done."""
    rows = [
        {"at": now, "tenant": tenant, "actor": actor, "action": action, "subject": subject} for tenant, subject in what
    ]
    if rows:
        await connection.execute(insert(audit), rows)
