from dataclasses import replace

import pytest

from nautilus.jobs.deliveries import claim, due, enqueue, next_due, record
from nautilus.jobs.webhook import Dead, Delivered
from nautilus.storage.database import Database
from tests.jobs.rows import START, notice, rows, write


async def test_full_hosts_are_passed_over_by_their_exact_name(database: Database) -> None:
    urls = ("https://a_b.example/1", "https://aXb.example/1", "https://a_b.example.org/1", "https://a%b.example/1")
    await write(database, *(notice(url, f"job_{number}") for number, url in enumerate(urls)))
    async with database.begin() as connection:
        found = await due(connection, START, ["https://a_b.example/"], 10)
    assert {one.url for one in found} == set(urls[1:])


async def test_the_longest_due_go_first(database: Database) -> None:
    for number, now in enumerate((START, START - 5, START - 9, START + 3)):
        await write(database, notice("https://a.example/", f"job_{number}"), now=now)
    async with database.begin() as connection:
        found = await due(connection, START, (), 2)
        soon = await next_due(connection, START)
    jobs = {row.id: row.job for row in await rows(database)}
    assert [jobs[one.id] for one in found] == ["job_2", "job_1"]
    assert soon == START + 3


async def test_the_same_end_is_written_down_once(database: Database) -> None:
    one = notice("https://a.example/")
    await write(database, one, one)
    await write(database, one, replace(one, run=2), now=START + 1)
    assert [row.due_at for row in sorted(await rows(database), key=lambda row: row.due_at)] == [START, START + 1]


async def test_a_job_that_does_not_end_after_all_tells_nobody(database: Database) -> None:
    async def end() -> None:
        async with database.begin() as connection:
            await enqueue(connection, notice("https://a.example/"), START)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await end()
    assert await rows(database) == []


async def test_a_late_record_does_not_undo_a_later_attempt(database: Database) -> None:
    await write(database, one := notice("https://a.example/"))
    async with database.begin() as connection:
        (first,) = await claim(connection, [one.id], START, START + 60)
        assert await claim(connection, [one.id], START, START + 60) == []
        (second,) = await claim(connection, [one.id], START + 60, START + 120)
        await record(connection, first, Dead("late"), START + 61)
        await record(connection, second, Delivered(), START + 62)
        await record(connection, second, Dead("twice"), START + 63)
    (row,) = await rows(database)
    assert (row.status, row.attempts, row.delivered_at, row.error) == ("delivered", 2, START + 62, None)
