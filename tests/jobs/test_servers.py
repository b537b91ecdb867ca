"""Who is gone, and who takes over; in databases of each kind."""

import subprocess
import sys

import pytest
import sqlalchemy as sa

from nautilus.jobs.job import JobLimits
from nautilus.jobs.servers import Servers
from nautilus.storage.database import Database
from nautilus.storage.tables import servers

LIMITS = JobLimits(dead_after=15.0)


class Recovery:
    """Notes whose jobs are queued again; fails at first if it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.of: list[str] = []

    async def __call__(self, dead: list[str]) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        self.of += dead


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


async def test_one_that_is_silent_for_too_long_is_taken_over_from_once(database: Database) -> None:
    clock, recovery = Clock(), Recovery()
    one, other = Servers(database, "1", LIMITS, clock), Servers(database, "1", LIMITS, clock)
    await one.tick(recovery)
    clock.time += LIMITS.dead_after
    await other.tick(recovery)
    assert recovery.of == []
    clock.time += 1.0
    await other.tick(recovery)
    await other.tick(recovery)
    assert recovery.of == [one.id]


async def test_one_that_signed_off_is_taken_over_from_at_once(database: Database) -> None:
    clock, recovery = Clock(), Recovery()
    one, other = Servers(database, "1", LIMITS, clock), Servers(database, "1", LIMITS, clock)
    await one.tick(recovery)
    await one.sign_off(unfinished=True)
    await other.tick(recovery)
    assert recovery.of == [one.id]


async def test_one_that_leaves_no_jobs_is_not_taken_over_from(database: Database) -> None:
    clock, recovery = Clock(), Recovery()
    one, other = Servers(database, "1", LIMITS, clock), Servers(database, "1", LIMITS, clock)
    await one.tick(recovery)
    await one.sign_off(unfinished=False)
    await other.tick(recovery)
    assert recovery.of == []


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(ended.stdout)


async def test_one_whose_process_is_gone_from_this_machine_is_taken_over_from_at_once(
    database: Database, gone: int
) -> None:
    clock, recovery = Clock(), Recovery()
    one, other = Servers(database, "1", LIMITS, clock), Servers(database, "1", LIMITS, clock)
    await one.tick(recovery)
    async with database.begin() as connection:
        await connection.execute(sa.update(servers).values(pid=gone))
    await other.tick(recovery)
    assert recovery.of == [one.id]


async def test_a_takeover_that_fails_is_done_again(database: Database) -> None:
    clock, recovery = Clock(), Recovery(fails=1)
    one, other = Servers(database, "1", LIMITS, clock), Servers(database, "1", LIMITS, clock)
    await one.tick(recovery)
    await one.sign_off(unfinished=True)
    with pytest.raises(ConnectionError):
        await other.tick(recovery)
    await other.tick(recovery)
    assert recovery.of == [one.id]
