"""Which servers share the work, and which are gone.

Each server signs in the table `servers` and shows a sign of life every few seconds. One that shows none for
`JobLimits.dead_after` seconds, or that signed off with jobs unfinished, is gone: who sees it queues its jobs again,
which may be done twice, and deletes its row.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NoReturn

import sqlalchemy as sa
import structlog

from nautilus.jobs.job import JobLimits
from nautilus.jobs.rows import new_id
from nautilus.storage.database import Database
from nautilus.storage.tables import servers

log = structlog.get_logger(__name__)

SIGNS: Final = 3
"""Signs of life within `dead_after`."""


class Servers:
    """One server among the others."""

    def __init__(
        self,
        database: Database,
        version: str,
        limits: JobLimits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.id: Final = new_id("server", now())
        self._database = database
        self._version = version
        self._limits = limits
        self._now = now
        self._place = place()

    async def live(self, recover: Callable[[list[str]], Awaitable[None]]) -> NoReturn:
        """Show signs of life and take over from the dead, until cancelled."""
        while True:
            try:
                await self.tick(recover)
            except Exception as error:  # noqa: BLE001 - whatever the database or DBOS says: it is asked again
                log.warning("no sign of life could be shown, or nothing taken over", reason=repr(error))
            await asyncio.sleep(self._limits.dead_after / SIGNS)

    async def tick(self, recover: Callable[[list[str]], Awaitable[None]]) -> list[str]:
        """Show a sign of life; return the servers that were found dead."""
        now = self._now()
        async with self._database.begin() as connection:
            seen = await connection.execute(sa.update(servers).where(servers.c.id == self.id).values(seen_at=now))
            if not seen.rowcount:
                mine = {"id": self.id, "place": self._place, "pid": os.getpid(), "version": self._version}
                await connection.execute(sa.insert(servers).values(**mine, seen_at=now))
            others = (await connection.execute(sa.select(servers).where(servers.c.id != self.id))).all()
            dead = [row.id for row in others if self._is_dead(row.seen_at, row.place, row.pid, now)]
        if dead:
            log.warning("taking over the jobs of servers that are gone", servers=dead)
            await recover(dead)
            async with self._database.begin() as connection:  # not before: what is cut off here is done again
                await connection.execute(sa.delete(servers).where(servers.c.id.in_(dead)))
        return dead

    async def sign_off(self, *, unfinished: bool) -> None:
        """Hand this server's jobs to whoever looks next; one that leaves none is forgotten."""
        row = servers.c.id == self.id
        async with self._database.begin() as connection:
            if unfinished:
                await connection.execute(sa.update(servers).where(row).values(seen_at=0.0))
            else:
                await connection.execute(sa.delete(servers).where(row))

    def _is_dead(self, seen_at: float, where: str, pid: int, now: float) -> bool:
        if now - seen_at > self._limits.dead_after:
            return True
        return where == self._place and not _is_running(pid)


def place() -> str:
    """Return where a process id means something: this boot of this machine, in this container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not boot.exists():
        return f"{socket.gethostname()}/{os.getpid()}"  # compare with nobody
    return f"{socket.gethostname()}/{boot.read_text().strip()}/{namespace.readlink()}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
