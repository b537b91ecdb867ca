"""Webhooks that were given up, as callers and operators see them, and sending them again."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from nautilus.errors import DeliveryNotFoundError
from nautilus.jobs.deliveries import DEAD, PENDING, DeadLetter, list_dead, redeliver
from nautilus.storage.database import Database


def _nothing() -> None:
    """Wake nobody: servers look by themselves every few seconds."""


class DeadLetters:
    """The webhooks of a tenant that were given up; None is all tenants."""

    def __init__(
        self, database: Database, wake: Callable[[], None] = _nothing, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._wake = wake
        self._now = now

    async def page(self, tenant: str | None, after: str | None, limit: int) -> tuple[Sequence[DeadLetter], bool]:
        """Return letters, the newest first, older than the letter `after`, and whether there are more."""
        async with self._database.reading() as connection:
            letters = await list_dead(connection, tenant, limit + 1, after)
        return letters[:limit], len(letters) > limit

    async def redeliver(self, tenant: str | None, delivery: str) -> None:
        """Have a webhook sent anew. Raises DeliveryNotFoundError where there is none, or it is on its way."""
        async with self._database.begin() as connection:
            if not await redeliver(connection, delivery, tenant, self._now()):
                raise DeliveryNotFoundError(delivery)
        self._wake()


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """Return the document of a webhook that was given up."""
    return {
        "id": letter.id,
        "object": "webhook.delivery",
        "status": DEAD,
        "job": letter.job,
        "url": letter.url,
        "attempts": letter.attempts,
        "error": letter.error,
        "created_at": int(letter.created_at),
    }


def queued_document(delivery: str) -> dict[str, Any]:
    """Return the document of a webhook that is to be sent again."""
    return {"id": delivery, "object": "webhook.delivery", "status": PENDING}
