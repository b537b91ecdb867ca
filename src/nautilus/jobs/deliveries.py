"""The rows of webhooks on their way: written with the job's end, claimed, recorded, listed, sent again.

A claim moves `due_at` ahead, beyond the time that an attempt may take, and counts the attempt. So no two servers send
the same row at the same time, and what a killed server was sending becomes due again by itself.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Insert, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.jobs.webhook import Dead, Delivered, Ending, Outcome, Retry
from nautilus.storage.tables import deliveries
from nautilus.traces.trace import Carrier

PENDING: Final = "pending"
DELIVERED: Final = "delivered"
DEAD: Final = "dead"
_OF_DELIVERY: Final = tuple(deliveries.c[name] for name in ("id", "url", "body", "attempts", "trace"))


@dataclass(frozen=True, slots=True)
class Notice:
    """That a job has ended, and who wants to know."""

    tenant: str
    job: str
    run: int
    """How often the job had been begun: each of its ends is told once."""
    ending: Ending
    url: str
    body: str
    trace: Carrier = field(default_factory=dict)
    """What names the request that the job came with."""

    @property
    def id(self) -> str:
        """The webhook-id: the same for the same end, however often it is written down."""
        told = f"{self.job}\n{self.run}\n{self.ending}".encode()
        return f"msg_{hashlib.sha256(told).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that this server is sending."""

    id: str
    url: str
    body: str
    attempts: int
    """With the present one."""
    trace: Carrier = field(default_factory=dict)
    """What names the request that the job came with."""

    @property
    def origin(self) -> str:
        """The scheme and the host, which is what fails as one."""
        return "/".join(self.url.split("/", 3)[:3]) + "/"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A webhook that was given up."""

    id: str
    tenant: str
    job: str
    url: str
    attempts: int
    error: str | None
    created_at: float


async def enqueue(connection: AsyncConnection, notice: Notice, now: float) -> str:
    """Write a webhook down, in the transaction that ends the job, and return its id. Wake the courier after commit."""
    row = {
        "id": notice.id,
        "tenant": notice.tenant,
        "job": notice.job,
        "url": notice.url,
        "body": notice.body,
        "status": PENDING,
        "attempts": 0,
        "due_at": now,
        "created_at": now,
        "trace": dict(notice.trace) or None,
    }
    await connection.execute(_insert_once(connection, row))
    return notice.id


async def due(connection: AsyncConnection, now: float, full: Collection[str], at_most: int) -> Sequence[Delivery]:
    """Return the webhooks that are due, the longest due first, but for origins that are `full`. Locks their rows."""
    wanted = (
        select(*_OF_DELIVERY)
        .where(deliveries.c.status == PENDING, deliveries.c.due_at <= now)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(at_most)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time
    )
    if full:
        wanted = wanted.where(~or_(*(deliveries.c.url.startswith(origin, autoescape=True) for origin in full)))
    return [_delivery(row) for row in await connection.execute(wanted)]


async def claim(connection: AsyncConnection, ids: Collection[str], now: float, until: float) -> Sequence[Delivery]:
    """Take webhooks to send, so that nobody else does before `until`. Returns those that were still to be had."""
    taken = (
        update(deliveries)
        .where(deliveries.c.id.in_(ids), deliveries.c.status == PENDING, deliveries.c.due_at <= now)
        .values(due_at=until, attempts=deliveries.c.attempts + 1)
        .returning(*_OF_DELIVERY)
    )
    return [_delivery(row) for row in await connection.execute(taken)]


async def record(connection: AsyncConnection, delivery: Delivery, outcome: Outcome, now: float) -> None:
    """Write down what became of an attempt, unless a later one has begun since."""
    match outcome:
        case Delivered():
            values: dict[str, Any] = {"status": DELIVERED, "delivered_at": now, "error": None}
        case Retry(at, reason):
            values = {"due_at": at, "error": reason}
        case Dead(reason):
            values = {"status": DEAD, "error": reason}
    mine = (deliveries.c.id == delivery.id, deliveries.c.attempts == delivery.attempts, deliveries.c.status == PENDING)
    await connection.execute(update(deliveries).where(*mine).values(**values))


async def next_due(connection: AsyncConnection, now: float) -> float | None:
    """Return when the next webhook becomes due after `now`; None if none does."""
    later = (deliveries.c.status == PENDING, deliveries.c.due_at > now)
    soonest: float | None = await connection.scalar(select(func.min(deliveries.c.due_at)).where(*later))
    return soonest


async def list_dead(
    connection: AsyncConnection, tenant: str | None, at_most: int = 100, after: str | None = None
) -> Sequence[DeadLetter]:
    """Return webhooks that were given up, the newest first, older than the one `after`; None for those of all."""
    names = ("id", "tenant", "job", "url", "attempts", "error", "created_at")
    wanted = select(*(deliveries.c[name] for name in names)).where(deliveries.c.status == DEAD)
    if tenant is not None:
        wanted = wanted.where(deliveries.c.tenant == tenant)
    if after is not None:
        mark = select(deliveries.c.created_at).where(deliveries.c.id == after).scalar_subquery()
        same = and_(deliveries.c.created_at == mark, deliveries.c.id > after)
        wanted = wanted.where(or_(deliveries.c.created_at < mark, same))
    newest = wanted.order_by(deliveries.c.created_at.desc(), deliveries.c.id).limit(at_most)
    return [DeadLetter(*row) for row in await connection.execute(newest)]


async def redeliver(connection: AsyncConnection, delivery: str, tenant: str | None, now: float) -> bool:
    """Have a webhook sent anew, with the same id and all its attempts; whether there was one that is not on its way."""
    over = (deliveries.c.id == delivery, deliveries.c.status != PENDING)
    whose = () if tenant is None else (deliveries.c.tenant == tenant,)
    anew = {"status": PENDING, "attempts": 0, "due_at": now, "error": None, "delivered_at": None}
    return (await connection.execute(update(deliveries).where(*over, *whose).values(**anew))).rowcount > 0


def _delivery(row: Any) -> Delivery:
    return Delivery(row.id, row.url, row.body, row.attempts, row.trace or {})


def _insert_once(connection: AsyncConnection, row: dict[str, Any]) -> Insert:
    # Late: a dialect takes its time to import, and there is one database only.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(deliveries).values(**row).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(deliveries).values(**row).on_conflict_do_nothing()
