"""Jobs in the database, as callers begin, read and end them. Each call is one transaction."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import JobConflictError, JobNotFoundError, LimitError
from nautilus.jobs.deliveries import PENDING
from nautilus.jobs.job import OPEN, PRIORITIES, FileState, Job, JobRequest, Source, Status
from nautilus.jobs.rows import OnEnd, progress_data, read_file, read_job, sum_up, tell
from nautilus.jobs.uploads import take
from nautilus.storage.audit import audited
from nautilus.storage.database import Database
from nautilus.storage.tables import deliveries, job_events, job_files, jobs

ROWS_AT_ONCE: Final = 500
"""Files written by one statement."""


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
            "key": request.key,
            "trace": dict(request.trace) or None,
        }
        try:
            async with self._database.begin() as connection:
                await _check_room(connection, tenant, most)
                await connection.execute(sa.insert(jobs).values(row))
                sources = await take(connection, tenant, sources)
                for place in range(0, len(sources), ROWS_AT_ONCE):
                    some = enumerate(sources[place : place + ROWS_AT_ONCE], place)
                    await connection.execute(
                        sa.insert(job_files), [_file_row(job, number, source) for number, source in some]
                    )
                await sum_up(connection, job)
                await tell(connection, job, now, "queued", {})
        except IntegrityError:
            return await self._same(tenant, request), False
        return await self.get(tenant, job), True

    async def _same(self, tenant: str, request: JobRequest) -> Job:
        key = request.idempotency_key
        async with self._database.reading() as connection:
            found = await connection.execute(
                sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.idempotency_key == key)
            )
            job = read_job(found.one())
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
        return Page(tuple(map(read_job, rows[:limit])), len(rows) > limit)

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
        return tuple(map(read_file, rows))

    async def file(self, job: str, number: int) -> FileState:
        """Return one file. Raises JobNotFoundError."""
        files = await self.files(job, after=number - 1, limit=1)
        if not files or files[0].number != number:
            raise JobNotFoundError(f"{job}, file {number}")
        return files[0]

    async def count(self) -> dict[str, int]:
        """Return how many jobs of all tenants have not ended, by status."""
        query = sa.select(jobs.c.status, sa.func.count()).where(jobs.c.status.in_(OPEN)).group_by(jobs.c.status)
        async with self._database.reading() as connection:
            return {status: int(number) for status, number in await connection.execute(query)}

    async def find(self, job: str) -> Job | None:
        """Return a job of any tenant, for the server itself; None if there is none."""
        async with self._database.reading() as connection:
            row = (await connection.execute(sa.select(jobs).where(jobs.c.id == job))).one_or_none()
        return read_job(row) if row else None

    async def waiting(self, age: float = 10.0, limit: int = 1000) -> list[Job]:
        """Return queued jobs of at least `age` seconds, the oldest first."""
        query = sa.select(jobs).where(jobs.c.status == "queued", jobs.c.created_at < self.now() - age)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(jobs.c.created_at).limit(limit))).all()
        return [read_job(row) for row in rows]

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
            ended = read_job(row)
            await tell(connection, job, now, "cancelled", progress_data(ended))
            await self._on_end.promise(connection, ended)
        self._on_end.told(ended)
        return ended

    async def retry(self, tenant: str, job: str) -> Job:
        """Queue the files of an ended job that did not end well.

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
            await sum_up(connection, job)
            queued = await connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job)
                .values(status="queued", error=None, completed_at=None, expires_at=None, runs=jobs.c.runs + 1)
                .returning(jobs)
            )
            row = queued.one()
            await tell(connection, job, now, "queued", {})
            return read_job(row)

    async def delete(self, tenant: str, job: str, actor: str) -> tuple[str, ...]:
        """Forget a job with all its rows, but for a webhook on its way. Return the uploads' blobs that were its own."""
        async with self._database.begin() as connection:
            await _get(connection, tenant, job)
            own = sa.select(job_files.c.blob).where(job_files.c.job == job, job_files.c.blob.contains("/uploads/"))
            blobs = tuple(await connection.scalars(own))
            await connection.execute(sa.delete(jobs).where(jobs.c.id == job))
            told = (deliveries.c.job == job, deliveries.c.tenant == tenant, deliveries.c.status != PENDING)
            await connection.execute(sa.delete(deliveries).where(*told))
            await audited(connection, self.now(), actor, "job deleted", [(tenant, job)])
            return blobs

    async def events(self, job: str, after: int, limit: int = 100) -> tuple[Event, ...]:
        """Return what happened to a job after event number `after`."""
        query = sa.select(job_events).where(job_events.c.job == job, job_events.c.number > after)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(job_events.c.number).limit(limit))).all()
        return tuple(Event(row.number, row.at, row.kind, row.data) for row in rows)


async def _check_room(connection: AsyncConnection, tenant: str, most: int) -> None:
    query = sa.select(sa.func.count()).where(jobs.c.tenant == tenant, jobs.c.status.in_(OPEN))
    if (await connection.execute(query)).scalar_one() >= most:
        raise LimitError(f"{most} jobs wait or run already; send more when some are done.", retry_after=30.0)


async def _get(connection: AsyncConnection, tenant: str, job: str) -> Job:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.tenant == tenant, jobs.c.id == job))).one_or_none()
    if row is None:
        raise JobNotFoundError(job)
    return read_job(row)


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
