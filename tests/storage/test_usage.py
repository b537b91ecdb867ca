"""Who used how much."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from sqlalchemy import func, select

from nautilus.storage.database import Database, open_database
from nautilus.storage.tables import requests
from nautilus.storage.usage import Total, UsageLog, Use, open_usage, totals

MIDNIGHT = datetime(2026, 6, 2, tzinfo=UTC).timestamp()
USE = Use("r", MIDNIGHT, "t", "k", "request", "m", seconds=2.5, latency=0.1, status=200)
FOREVER = (0.0, 1e12)


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(requests))).scalar_one())


async def test_what_was_added_is_written_by_the_end(database: Database) -> None:
    async with open_usage(database, every=3600) as usage:
        for number in range(1234):
            usage.add(replace(USE, request=str(number)))
        assert await count(database) == 0
    assert (await count(database), usage.dropped) == (1234, 0)


async def test_what_was_added_is_written_soon(database: Database) -> None:
    async with open_usage(database, every=0.01) as usage, asyncio.timeout(10):
        usage.add(USE)
        while not await count(database):  # noqa: ASYNC110 - a row tells nobody
            await asyncio.sleep(0.01)


async def test_what_comes_while_it_writes_is_for_the_next_time(database: Database) -> None:
    usage = UsageLog(database)
    usage.add(USE)
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(usage.write())
        await asyncio.sleep(0)  # it has begun
        usage.add(USE)
        await writing
        assert await count(database) == 1
        await usage.write()
    assert await count(database) == 2


async def test_days_end_at_midnight_utc(database: Database) -> None:
    usage = UsageLog(database)
    for at in (MIDNIGHT - 0.001, MIDNIGHT, MIDNIGHT + 86399.999, MIDNIGHT + 86400):
        usage.add(replace(USE, at=at))
    await usage.write()
    found = [(total.day, total.requests) for total in await totals(database, *FOREVER)]
    assert found == [(date(2026, 6, 1), 1), (date(2026, 6, 2), 2), (date(2026, 6, 3), 1)]
    assert [total.day for total in await totals(database, MIDNIGHT, MIDNIGHT + 86400)] == [date(2026, 6, 2)]


async def test_totals_are_by_tenant_key_and_model(database: Database) -> None:
    usage = UsageLog(database)
    for use in (
        USE,
        replace(USE, status=500),
        replace(USE, key="l"),
        replace(USE, model="n"),
        replace(USE, tenant="u"),
    ):
        usage.add(use)
    await usage.write()
    day = date(2026, 6, 2)
    mine = [
        Total(day, "t", "k", "m", 2, 1, 5.0),
        Total(day, "t", "k", "n", 1, 0, 2.5),
        Total(day, "t", "l", "m", 1, 0, 2.5),
    ]
    assert await totals(database, *FOREVER, tenant="t") == mine
    assert await totals(database, *FOREVER) == [*mine, Total(day, "u", "k", "m", 1, 0, 2.5)]


async def test_what_finds_no_room_is_counted(database: Database) -> None:
    async with open_usage(database, every=3600, room=10) as usage:
        for _ in range(15):
            usage.add(USE)
    assert (await count(database), usage.dropped) == (10, 5)


async def test_whatever_a_client_calls_its_request_it_is_written(database: Database) -> None:
    usage = UsageLog(database)
    for name in ("x" * 1000, "nul\0", "half a pair \ud800", "☂" * 200):
        usage.add(replace(USE, request=name, key=None, model=name))
    await usage.write()
    assert (await count(database), usage.dropped) == (4, 0)


async def test_a_row_that_the_database_refuses_costs_no_other(database: Database) -> None:
    usage = UsageLog(database)
    for status in (200, 2**80, 200):
        usage.add(replace(USE, status=status))
    await usage.write()
    assert (await count(database), usage.dropped) == (2, 1)


async def test_what_a_database_that_is_down_did_not_take_waits(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with open_database(f"sqlite:///{path}") as database, open_usage(database, every=0.01) as usage:
        async with database.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE requests RENAME TO away")
        usage.add(USE)
        await asyncio.sleep(0.1)
        assert "1 waiting, 0 dropped" in repr(usage)
        async with database.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE away RENAME TO requests")
    async with open_database(f"sqlite:///{path}") as database:
        assert await count(database) == 1
