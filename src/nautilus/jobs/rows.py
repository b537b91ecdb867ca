"""Rows of jobs ↔ values, and what several queries share."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.jobs.job import Fault, FileState, Job
from nautilus.storage.tables import job_events, job_files, jobs


@dataclass(frozen=True, slots=True)
class OnEnd:
    """What follows when a job has ended."""

    promise: Callable[[AsyncConnection, Job], Awaitable[None]]
    """Writes in the same transaction: what it writes is there exactly if the end is."""
    told: Callable[[Job], None]
    """Does what is done once the end is written."""


def new_id(kind: str, now: float) -> str:
    """Return an id that nobody can guess and that sorts by age."""
    return f"{kind}_{int(now * 1000):012x}{os.urandom(12).hex()}"


async def sum_up(connection: AsyncConnection, job: str) -> Job:
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
    return read_job(summed.one())


async def tell(connection: AsyncConnection, job: str, at: float, kind: str, data: Mapping[str, Any]) -> None:
    """Write down what happened to a job."""
    last = sa.select(sa.func.coalesce(sa.func.max(job_events.c.number), 0) + 1).where(job_events.c.job == job)
    await connection.execute(
        sa.insert(job_events).values(job=job, number=last.scalar_subquery(), at=at, kind=kind, data=dict(data))
    )


def progress_data(job: Job) -> dict[str, Any]:
    """Return what events tell of how far a job is."""
    return {
        "progress": round(job.progress, 4),
        "seconds_done": round(job.seconds_done, 3),
        "seconds_total": job.seconds_total,
        "files_done": job.files_done,
        "files_failed": job.files_failed,
    }


def read_job(row: Any) -> Job:
    """Return the job of a row."""
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
        runs=row.runs,
        key=row.key,
        trace=row.trace or {},
    )


def read_file(row: Any) -> FileState:
    """Return the file of a row."""
    return FileState(
        number=row.number,
        name=row.name,
        status=row.status,
        url=row.url,
        blob=row.blob,
        bytes=row.bytes,
        digest=row.digest,
        seconds=row.seconds,
        seconds_done=row.seconds_done,
        error=Fault.read(row.error),
        result=row.result,
        checkpoint=row.checkpoint,
        tries=row.tries,
    )
