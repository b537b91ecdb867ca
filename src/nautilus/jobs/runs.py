"""What the work on a job writes down. Each call is one transaction, and fenced.

A job's `runs` is its fence: `begin` raises it, and whatever an older run writes is refused (`SupersededError`), so two
servers that both believe to own a job never write over each other.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.jobs.job import OPEN, Fault, Job, Source, Status
from nautilus.jobs.rows import OnEnd, progress_data, read_job, sum_up, tell
from nautilus.storage.database import Database
from nautilus.storage.tables import job_files, jobs


class SupersededError(Exception):
    """The job was cancelled, deleted, or begun anew elsewhere: stop working on it."""


@dataclass(frozen=True, slots=True)
class FileEnd:
    """How a file ended."""

    number: int
    seconds: float
    result: str | None = None
    """Where its transcript lies."""
    transcript: bytes = field(default=b"", repr=False)
    """What has to lie there before this is written down."""
    error: Fault | None = None


class Runs:
    """The runs of jobs."""

    def __init__(self, database: Database, on_end: OnEnd, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._on_end = on_end
        self.now = now
        """The clock."""

    async def begin(self, job: str) -> Job | None:
        """Begin a new run; None if there is nothing left to do."""
        now = self.now()
        async with self._database.begin() as connection:
            begun = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job, jobs.c.status.in_(OPEN))
                .values(status="processing", runs=jobs.c.runs + 1, started_at=sa.func.coalesce(jobs.c.started_at, now))
                .returning(jobs)
            )
            row = begun.one_or_none()
            if row is None:
                return None
            await connection.execute(  # files that were in hand when the run before stopped
                sa.update(job_files)
                .where(job_files.c.job == job, job_files.c.status == "processing")
                .values(tries=job_files.c.tries + 1)
            )
            await tell(connection, job, now, "processing", {})
            return read_job(row)

    async def fetched(self, run: Job, number: int, source: Source) -> None:
        """Store where a file's audio lies now."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.id, job_files.c.number == number)
                .values(blob=source.blob, bytes=source.bytes, digest=source.digest)
            )

    async def started(self, run: Job, numbers: Sequence[int]) -> None:
        """Store that files are begun."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.id, job_files.c.number.in_(numbers))
                .values(status="processing")
            )

    async def tried(self, run: Job, numbers: Sequence[int]) -> None:
        """Store that files could not be done this time, in a way that may pass."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.id, job_files.c.number.in_(numbers))
                .values(tries=job_files.c.tries + 1)
            )

    async def checkpoint(
        self, run: Job, number: int, done: float, total: float | None, standing: dict[str, Any]
    ) -> None:
        """Store how far a long recording came."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.id, job_files.c.number == number)
                .values(seconds_done=done, seconds=total, checkpoint=standing, tries=0)
            )
            await self._progress(connection, run)

    async def ended(self, run: Job, ends: Sequence[FileEnd]) -> None:
        """Store how files ended."""
        rows = [
            {
                "n": end.number,
                "s": end.seconds,
                "r": end.result,
                "e": end.error.body() if end.error else None,
                "t": "failed" if end.error else "completed",
            }
            for end in ends
        ]
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.id, job_files.c.number == sa.bindparam("n"))
                .values(
                    status=sa.bindparam("t"),
                    seconds=sa.bindparam("s"),
                    seconds_done=sa.bindparam("s"),
                    result=sa.bindparam("r"),
                    error=sa.bindparam("e", type_=job_files.c.error.type),
                    checkpoint=sa.null(),
                ),
                rows,
            )
            await self._progress(connection, run)

    async def end(self, run: Job, status: Status, error: Fault | None, expires_at: float) -> Job:
        """End a job for good."""
        now = self.now()
        async with self._fenced(run) as connection:
            if error is not None:
                await connection.execute(
                    sa.update(job_files)
                    .where(job_files.c.job == run.id, job_files.c.status.in_(OPEN))
                    .values(status="failed", error=error.body(), checkpoint=None)
                )
            await sum_up(connection, run.id)
            ended = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == run.id)
                .values(status=status, error=error.body() if error else None, completed_at=now, expires_at=expires_at)
                .returning(jobs)
            )
            job = read_job(ended.one())
            await tell(connection, job.id, now, status, progress_data(job))
            await self._on_end.promise(connection, job)
        self._on_end.told(job)
        return job

    async def forget_audio(self, job: str, numbers: Sequence[int]) -> None:
        """Store that the audio of files is gone."""
        async with self._database.begin() as connection:
            await connection.execute(
                sa.update(job_files).where(job_files.c.job == job, job_files.c.number.in_(numbers)).values(blob=None)
            )

    async def _progress(self, connection: AsyncConnection, run: Job) -> None:
        job = await sum_up(connection, run.id)
        await tell(connection, job.id, self.now(), "progress", progress_data(job))

    @asynccontextmanager
    async def _fenced(self, run: Job) -> AsyncIterator[AsyncConnection]:
        """Run a transaction in which a run may write; raise SupersededError if it may not any more."""
        async with self._database.begin() as connection:
            held = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == run.id, jobs.c.runs == run.runs, jobs.c.status == "processing")
                .values(runs=jobs.c.runs)  # takes the row's lock, so that nobody else begins a run meanwhile
            )
            if not held.rowcount:
                raise SupersededError(run.id)
            yield connection
