"""Who used how much: a row for each request, and totals by day. No word of what was said.

Rows wait in memory, at most 10,000 of them, and one task writes them each second: a request never waits for the
database, and one that is down costs rows only when it stays down. What finds no room is counted, not kept.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Dialect, Integer, case, cast, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from nautilus.errors import BadRequestError, StorageError
from nautilus.storage.database import Database
from nautilus.storage.tables import requests

log = structlog.get_logger(__name__)

DAY: Final = 86400
MONTH: Final = timedelta(days=30)
ROOM: Final = 10_000
BATCH: Final = 500
REFUSED: Final = (SQLAlchemyError, OverflowError)
"""How a database says that it cannot hold a value."""


@dataclass(frozen=True, slots=True)
class Use:
    """One request, live stream or job."""

    request: str
    """Its `x-request-id`, or the job's id."""
    at: float
    """When it ended, in seconds since 1970."""
    tenant: str
    key: str | None
    """The id of the key it came with."""
    kind: str
    """request, stream or job."""
    model: str
    seconds: float
    """Of audio."""
    latency: float
    """Seconds that it took."""
    status: int
    """HTTP's."""


@dataclass(frozen=True, slots=True)
class Total:
    """What one key used of one model on one day, UTC."""

    day: date
    tenant: str
    key: str | None
    model: str
    requests: int
    failed: int
    """Of these, with a status of 400 or more."""
    seconds: float
    """Of audio."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days, UTC."""

    first: date
    last: date

    @property
    def bounds(self) -> tuple[float, float]:
        """When it begins, and when the day after it does, in seconds since 1970."""
        start, end = (datetime.combine(day, datetime.min.time(), UTC) for day in (self.first, self.last))
        return start.timestamp(), end.timestamp() + DAY


class UsageLog:
    """Takes what is to be written. `dropped` is for whoever counts."""

    def __init__(self, database: Database, room: int = ROOM) -> None:
        self._database = database
        self._waiting: deque[Use] = deque()
        self._room = room
        self.dropped = 0
        """Rows that were lost: no room, or refused by the database."""

    def __repr__(self) -> str:
        return f"<UsageLog {len(self._waiting)} waiting, {self.dropped} dropped>"

    def add(self, use: Use) -> None:
        """Take a row; never waits and never fails."""
        if len(self._waiting) >= self._room:
            self.dropped += 1
            return
        self._waiting.append(use)

    async def write(self) -> None:
        """Write all that waits now; what comes meanwhile is for the next time, or a busy server would do nothing else.

        What a database that is down did not take waits on; raises StorageError then.
        """
        waiting = tuple(self._waiting)
        for first in range(0, len(waiting), BATCH):
            batch = waiting[first : first + BATCH]
            try:
                await self._insert(batch)
            except REFUSED:
                await self._insert_each(batch)
            for _ in batch:
                self._waiting.popleft()

    async def _insert_each(self, batch: Sequence[Use]) -> None:
        """Let a row that the database refuses cost no other."""
        for use in batch:
            try:
                await self._insert([use])
            except REFUSED:
                log.exception("usage was refused by the database", request=use.request)
                self.dropped += 1

    async def _insert(self, batch: Sequence[Use]) -> None:
        async with self._database.begin() as connection:
            statement, rows = _inserting(connection.dialect, [_fitting(use) for use in batch])
            await connection.exec_driver_sql(statement, rows)


def _inserting(dialect: Dialect, batch: Sequence[Use]) -> tuple[str, list[Any]]:
    """Return the statement and its rows as the driver takes them: SQLAlchemy's own way costs four times as much."""
    names, statement = _statement(dialect)
    values = map(attrgetter(*names), batch)
    return statement, list(values) if dialect.positional else [dict(zip(names, row, strict=True)) for row in values]


@cache
def _statement(dialect: Dialect) -> tuple[tuple[str, ...], str]:
    names = tuple(column.name for column in requests.c if column is not requests.c.id)
    return names, str(insert(requests).compile(dialect=dialect, column_keys=names))


@asynccontextmanager
async def open_usage(database: Database, every: float = 1.0, room: int = ROOM) -> AsyncIterator[UsageLog]:
    """Give a log that is written each second, and once more at the end of the block."""
    usage, over = UsageLog(database, room), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_write_on(usage, every, over))
        try:
            yield usage
        finally:
            over.set()
    await _try_to_write(usage)


async def _write_on(usage: UsageLog, every: float, over: asyncio.Event) -> None:
    while not over.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await over.wait()
        await _try_to_write(usage)


async def _try_to_write(usage: UsageLog) -> None:
    try:
        await usage.write()
    except StorageError as error:
        log.warning("usage cannot be written", usage=repr(usage), error=str(error))


async def totals(database: Database, since: float, until: float, tenant: str | None = None) -> list[Total]:
    """Return what was used from `since` to before `until`, by day, tenant, key and model; of one tenant or of all.

    Raises StorageError.
    """
    day = _day(requests.c.at, sqlite=database.is_sqlite).label("day")
    by = (day, requests.c.tenant, requests.c.key, requests.c.model)
    failed = func.sum(case((requests.c.status >= 400, 1), else_=0))  # noqa: PLR2004 - HTTP's
    query = (
        select(*by, func.count(), failed, func.sum(requests.c.seconds))
        .where(requests.c.at >= since, requests.c.at < until)
        .group_by(*by)
        .order_by(*by)
    )
    if tenant is not None:
        query = query.where(requests.c.tenant == tenant)
    async with database.reading() as connection:
        rows = (await connection.execute(query)).all()
    return [Total(datetime.fromtimestamp(row[0] * DAY, UTC).date(), *row[1:]) for row in rows]


def read_period(since: date | None, until: date | None, now: float | None = None) -> Period:
    """Return the days that are meant; a month up to today where nothing is said. Raises BadRequestError."""
    last = until or datetime.fromtimestamp(time.time() if now is None else now, UTC).date()
    first = since or max(date.min + MONTH, last) - MONTH
    if first > last:
        raise BadRequestError(f"since ({first}) is after until ({last}); name the earlier day first.", "since")
    return Period(first, last)


def usage_document(period: Period, found: Sequence[Total]) -> dict[str, Any]:
    """Return totals as callers see them."""
    rows = [asdict(total) | {"day": total.day.isoformat(), "seconds": round(total.seconds, 3)} for total in found]
    return {"object": "list", "since": period.first.isoformat(), "until": period.last.isoformat(), "data": rows}


def day_of(at: float) -> float:
    """Return when the day, UTC, of a time began."""
    return at // DAY * DAY


def _day(at: ColumnElement[float], *, sqlite: bool) -> ColumnElement[int]:
    """Return the days since 1970: SQLite cuts where it casts and may lack `floor`, PostgreSQL rounds where it casts."""
    return cast(at / DAY if sqlite else func.floor(at / DAY), Integer)


def _fitting(use: Use) -> Use:
    """Return what columns take, whatever a client called its request."""
    return replace(
        use,
        request=_cut(use.request, 128),
        tenant=_cut(use.tenant, 64),
        key=None if use.key is None else _cut(use.key, 64),
        kind=_cut(use.kind, 16),
        model=_cut(use.model, 256),
    )


def _cut(text: str, length: int) -> str:
    if len(text) <= length and text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:length]
