"""Jobs in the database: every query of this room. Each call is one transaction.

A job's `runs` is its fence: `begin` raises it, and whatever an older run writes is refused (`SupersededError`), so two
servers that both believe to own a job never write over each other.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import JobConflictError, JobNotFoundError, LimitError
from nautilus.jobs.job import OPEN, PRIORITIES, Fault, FileState, Job, JobRequest, Source, Status
from nautilus.storage.database import Database
from nautilus.storage.tables import job_events, job_files, jobs

ROWS_AT_ONCE: Final = 500
"""Files written by one statement."""


class SupersededError(Exception):
    """The job was cancelled, deleted, or begun anew elsewhere: stop working on it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One go at a job; what it writes counts until the next go begins."""

    job: Job
    number: int


@dataclass(frozen=True, slots=True)
class FileEnd:
    """How a file ended."""

    number: int
    seconds: float
    result: str | None = None
    error: Fault | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    number: int
    at: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a tenant's jobs, the youngest first."""

    jobs: tuple[Job, ...]
    has_more: bool


OnEnd: TypeAlias = Callable[[AsyncConnection, Job], Awaitable[None]]
"""Told, in the same transaction, that a job has ended: what it writes is there exactly if the end is."""


class Records:
    """Jobs, their files and their events."""

    def __init__(self, database: Database, on_end: OnEnd, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._on_end = on_end
        self.now = now
        """The clock."""

    async def add(
        self, job: str, tenant: str, request: JobRequest, sources: Sequence[Source], most: int
    ) -> tuple[Job, bool]:
        """Store a new job; return it and whether it is new: the same idempotency key gives the job it gave before.

        Raises LimitError if the tenant has `most` open jobs, JobConflictError if the key came with something else.
        """
        now = self.now()
        row = {
            "id": job,
            "tenant": tenant,
            "status": "queued",
            "priority": PRIORITIES[request.priority],
            "request": [list(pair) for pair in request.form],
            "meta": dict(request.metadata),
            "webhook_url": request.webhook_url,
            "idempotency_key": request.idempotency_key,
            "fingerprint": request.fingerprint,
            "files": len(sources),
            "created_at": now,
        }
        try:
            async with self._database.begin() as connection:
                await _check_room(connection, tenant, most)
                await connection.execute(sa.insert(jobs).values(row))
                for place in range(0, len(sources), ROWS_AT_ONCE):
                    some = enumerate(sources[place : place + ROWS_AT_ONCE], place)
                    await connection.execute(
                        sa.insert(job_files), [_file_row(job, number, source) for number, source in some]
                    )
                await _sum_up(connection, job)
                await _tell(connection, job, now, "queued", {})
        except IntegrityError:
            return await self._same(tenant, request), False
        return await self.get(tenant, job), True

    async def _same(self, tenant: str, request: JobRequest) -> Job:
        key = request.idempotency_key
        async with self._database.reading() as connection:
            found = await connection.execute(
                sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.idempotency_key == key)
            )
            job = _job(found.one())
        if job.fingerprint != request.fingerprint:
            raise JobConflictError(f"The Idempotency-Key '{key}' was used for another request; choose a new one.")
        return job

    async def get(self, tenant: str, job: str) -> Job:
        """Return a job. Raises JobNotFoundError, also for one of another tenant."""
        async with self._database.reading() as connection:
            return await _get(connection, tenant, job)

    async def page(self, tenant: str, status: Status | None, after: str | None, limit: int) -> Page:
        """Return jobs, the youngest first, older than the job `after`."""
        query = sa.select(jobs).where(jobs.c.tenant == tenant)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if after is not None:
            mark = await self.get(tenant, after)
            query = query.where(sa.tuple_(jobs.c.created_at, jobs.c.id) < (mark.created_at, mark.id))
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit + 1)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return Page(tuple(map(_job, rows[:limit])), len(rows) > limit)

    async def position(self, job: Job) -> int:
        """Return how many of the tenant's jobs go before a queued one."""
        before = sa.or_(
            jobs.c.priority < job.priority,
            sa.and_(
                jobs.c.priority == job.priority, sa.tuple_(jobs.c.created_at, jobs.c.id) < (job.created_at, job.id)
            ),
        )
        query = sa.select(sa.func.count()).where(jobs.c.tenant == job.tenant, jobs.c.status == "queued", before)
        async with self._database.reading() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def files(
        self, job: str, statuses: Sequence[Status] = (), after: int = -1, limit: int = 1000
    ) -> tuple[FileState, ...]:
        """Return files of a job in order, behind number `after`; of some statuses only, if any are given."""
        query = sa.select(job_files).where(job_files.c.job == job, job_files.c.number > after)
        if statuses:
            query = query.where(job_files.c.status.in_(statuses))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(job_files.c.number).limit(limit))).all()
        return tuple(map(_file, rows))

    async def file(self, job: str, number: int) -> FileState:
        """Return one file. Raises JobNotFoundError."""
        files = await self.files(job, after=number - 1, limit=1)
        if not files or files[0].number != number:
            raise JobNotFoundError(f"{job}, file {number}")
        return files[0]

    async def waiting(self, age: float = 10.0, limit: int = 1000) -> list[tuple[Job, int]]:
        """Return queued jobs of at least `age` seconds, the oldest first, each with the number of its last run."""
        query = sa.select(jobs).where(jobs.c.status == "queued", jobs.c.created_at < self.now() - age)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(jobs.c.created_at).limit(limit))).all()
        return [(_job(row), int(row.runs)) for row in rows]

    async def begin(self, job: str) -> Run | None:
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
            await _tell(connection, job, now, "processing", {})
            return Run(_job(row), int(row.runs))

    async def fetched(self, run: Run, number: int, source: Source) -> None:
        """Store where a file's audio lies now."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.job.id, job_files.c.number == number)
                .values(blob=source.blob, bytes=source.bytes, digest=source.digest)
            )

    async def started(self, run: Run, numbers: Sequence[int]) -> None:
        """Store that files are begun."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.job.id, job_files.c.number.in_(numbers))
                .values(status="processing", tries=job_files.c.tries + 1)
            )

    async def checkpoint(
        self, run: Run, number: int, done: float, total: float | None, standing: dict[str, Any]
    ) -> None:
        """Store how far a long recording came."""
        async with self._fenced(run) as connection:
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == run.job.id, job_files.c.number == number)
                .values(seconds_done=done, seconds=total, checkpoint=standing, tries=0)
            )
            await self._progress(connection, run)

    async def ended(self, run: Run, ends: Sequence[FileEnd]) -> None:
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
                .where(job_files.c.job == run.job.id, job_files.c.number == sa.bindparam("n"))
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

    async def end(self, run: Run, status: Status, error: Fault | None, expires_at: float) -> Job:
        """End a job for good."""
        now = self.now()
        async with self._fenced(run) as connection:
            await _sum_up(connection, run.job.id)
            ended = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == run.job.id)
                .values(status=status, error=error.body() if error else None, completed_at=now, expires_at=expires_at)
                .returning(jobs)
            )
            job = _job(ended.one())
            await _tell(connection, job.id, now, status, _progress_data(job))
            await self._on_end(connection, job)
            return job

    async def cancel(self, tenant: str, job: str, expires_at: float) -> Job:
        """Cancel a job that has not ended. Raises JobConflictError for one that has."""
        now = self.now()
        async with self._database.begin() as connection:
            cancelled = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.tenant == tenant, jobs.c.id == job, jobs.c.status.in_(OPEN))
                .values(status="cancelled", completed_at=now, expires_at=expires_at, runs=jobs.c.runs + 1)
                .returning(jobs)
            )
            row = cancelled.one_or_none()
            if row is None:
                there = await _get(connection, tenant, job)
                raise JobConflictError(f"The job is {there.status} already; there is nothing to cancel.")
            await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == job, job_files.c.status.in_(OPEN))
                .values(status="cancelled", checkpoint=sa.null())
            )
            await _tell(connection, job, now, "cancelled", _progress_data(_job(row)))
            await self._on_end(connection, _job(row))
            return _job(row)

    async def retry(self, tenant: str, job: str) -> tuple[Job, int]:
        """Queue the files of an ended job that did not end well; return it and the number of its last run.

        Raises JobConflictError for a job that has not ended, or of which nothing failed.
        """
        now = self.now()
        async with self._database.begin() as connection:
            there = await _get(connection, tenant, job)
            if there.status in OPEN or there.status == "expired":
                raise JobConflictError(f"The job is {there.status}; only an ended one can be tried again.")
            again = await connection.execute(
                sa.update(job_files)
                .where(job_files.c.job == job, job_files.c.status.in_(("failed", "cancelled")))
                .where(sa.or_(job_files.c.blob.is_not(None), job_files.c.url.is_not(None)))
                .values(status="queued", error=None, seconds_done=0.0)
            )
            if not again.rowcount:
                raise JobConflictError(
                    "No file of this job can be tried again: all are transcribed, or their audio is gone."
                )
            await _sum_up(connection, job)
            queued = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job)
                .values(status="queued", error=None, completed_at=None, expires_at=None, runs=jobs.c.runs + 1)
                .returning(jobs)
            )
            row = queued.one()
            await _tell(connection, job, now, "queued", {})
            return _job(row), int(row.runs)

    async def delete(self, tenant: str, job: str) -> Job:
        """Forget a job with all its rows; return what it was."""
        async with self._database.begin() as connection:
            there = await _get(connection, tenant, job)
            await connection.execute(sa.delete(jobs).where(jobs.c.id == job))
            return there

    async def forget_audio(self, job: str, numbers: Sequence[int]) -> None:
        """Store that the audio of files is gone."""
        async with self._database.begin() as connection:
            await connection.execute(
                sa.update(job_files).where(job_files.c.job == job, job_files.c.number.in_(numbers)).values(blob=None)
            )

    async def events(self, job: str, after: int, limit: int = 100) -> tuple[Event, ...]:
        """Return what happened to a job after event number `after`."""
        query = sa.select(job_events).where(job_events.c.job == job, job_events.c.number > after)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(job_events.c.number).limit(limit))).all()
        return tuple(Event(row.number, row.at, row.kind, row.data) for row in rows)

    async def _progress(self, connection: AsyncConnection, run: Run) -> None:
        job = await _sum_up(connection, run.job.id)
        await _tell(connection, job.id, self.now(), "progress", _progress_data(job))

    @asynccontextmanager
    async def _fenced(self, run: Run) -> AsyncIterator[AsyncConnection]:
        """Run a transaction in which a run may write; raise SupersededError if it may not any more."""
        async with self._database.begin() as connection:
            held = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == run.job.id, jobs.c.runs == run.number, jobs.c.status == "processing")
                .values(runs=jobs.c.runs)  # takes the row's lock, so that nobody else begins a run meanwhile
            )
            if not held.rowcount:
                raise SupersededError(run.job.id)
            yield connection


def new_id(kind: str, now: float) -> str:
    """Return an id that nobody can guess and that sorts by age."""
    return f"{kind}_{int(now * 1000):012x}{os.urandom(12).hex()}"


async def _check_room(connection: AsyncConnection, tenant: str, most: int) -> None:
    query = sa.select(sa.func.count()).where(jobs.c.tenant == tenant, jobs.c.status.in_(OPEN))
    if (await connection.execute(query)).scalar_one() >= most:
        raise LimitError(f"{most} jobs wait or run already; send more when some are done.", retry_after=30.0)


async def _get(connection: AsyncConnection, tenant: str, job: str) -> Job:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.id == job))).one_or_none()
    if row is None:
        raise JobNotFoundError(job)
    return _job(row)


async def _sum_up(connection: AsyncConnection, job: str) -> Job:
    """Count a job's files anew."""
    files = job_files.c
    counted = (
        await connection.execute(
            sa.select(
                sa.func.count().filter(files.status.in_(("completed", "failed"))).label("done"),
                sa.func.count().filter(files.status == "failed").label("failed"),
                sa.func.sum(files.seconds_done).label("seconds_done"),
                sa.func.sum(files.seconds).label("seconds"),
                sa.func.count().filter(files.seconds.is_(None)).label("unknown"),
            ).where(files.job == job)
        )
    ).one()
    summed = await connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job)
        .values(
            files_done=counted.done,
            files_failed=counted.failed,
            seconds_done=counted.seconds_done or 0.0,
            seconds_total=None if counted.unknown else counted.seconds,
        )
        .returning(jobs)
    )
    return _job(summed.one())


async def _tell(connection: AsyncConnection, job: str, at: float, kind: str, data: Mapping[str, Any]) -> None:
    last = sa.select(sa.func.coalesce(sa.func.max(job_events.c.number), 0) + 1).where(job_events.c.job == job)
    await connection.execute(
        sa.insert(job_events).values(job=job, number=last.scalar_subquery(), at=at, kind=kind, data=dict(data))
    )


def _progress_data(job: Job) -> dict[str, Any]:
    return {
        "progress": round(job.progress, 4),
        "seconds_done": round(job.seconds_done, 3),
        "seconds_total": job.seconds_total,
        "files_done": job.files_done,
        "files_failed": job.files_failed,
    }


def _file_row(job: str, number: int, source: Source) -> dict[str, Any]:
    return {
        "job": job,
        "number": number,
        "name": source.name,
        "url": source.url,
        "blob": source.blob,
        "bytes": source.bytes,
        "digest": source.digest,
        "status": "failed" if source.error else "queued",
        "error": source.error.body() if source.error else None,
    }


def _job(row: Any) -> Job:
    return Job(
        id=row.id,
        tenant=row.tenant,
        status=row.status,
        priority=row.priority,
        form=tuple((name, value) for name, value in row.request),
        metadata=row.meta,
        webhook_url=row.webhook_url,
        fingerprint=row.fingerprint,
        files=row.files,
        files_done=row.files_done,
        files_failed=row.files_failed,
        seconds_total=row.seconds_total,
        seconds_done=row.seconds_done,
        error=Fault.read(row.error),
        created_at=row.created_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        expires_at=row.expires_at,
    )


def _file(row: Any) -> FileState:
    return FileState(
        number=row.number,
        name=row.name,
        status=row.status,
        url=row.url,
        blob=row.blob,
        digest=row.digest,
        seconds=row.seconds,
        seconds_done=row.seconds_done,
        error=Fault.read(row.error),
        result=row.result,
        checkpoint=row.checkpoint,
        tries=row.tries,
    )
