"""Retention: what is due to go goes, in small batches, and `audit` says so.

A blob is deleted before its row: what is cut off in between is found again by the next sweep. Every function may run on
several servers at once, does nothing twice, returns how many things it deleted, and raises StorageError.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Table, and_, delete, exists, or_, select, tuple_, update

from nautilus.storage.audit import ALL, audited
from nautilus.storage.blobs import Blobs, Stored
from nautilus.storage.database import Database
from nautilus.storage.settings import StorageSettings
from nautilus.storage.tables import cached, deliveries, job_events, job_files, jobs, requests, uploads

BATCH: Final = 200
"""Rows of one transaction: others write in between."""

FEW: Final = 10
"""Jobs of one transaction: a job may have 10,000 files."""

ACTOR: Final = "retention"
ENDED: Final = ("completed", "failed", "cancelled")

BLOBS: Final[tuple[Column[Any], ...]] = (job_files.c.blob, job_files.c.result, uploads.c.blob, cached.c.blob)
"""Every column that names a blob."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many of each went."""

    uploads: int
    results: int
    """Jobs whose results went."""
    jobs: int
    events: int
    requests: int
    orphans: int


async def sweep(database: Database, blobs: Blobs, settings: StorageSettings, now: float) -> Swept:
    """Delete everything that is due at `now`, in seconds since 1970; the result cache trims itself."""
    return Swept(
        uploads=await expired_uploads(database, blobs, now),
        results=await expired_results(database, blobs, now),
        jobs=await old_jobs(database, now - settings.keep_jobs, now),
        events=await old_events(database, now - settings.keep_events, now),
        requests=await old_requests(database, now - settings.keep_requests, now),
        orphans=await orphans(database, blobs, now - settings.keep_orphans, now),
    )


async def expired_uploads(database: Database, blobs: Blobs, now: float) -> int:
    """Delete uploads past their time, which no job may take any more; audio that one has taken stays."""
    count = 0
    taken = exists().where(job_files.c.blob == uploads.c.blob)
    due = select(uploads.c.id, uploads.c.tenant, uploads.c.blob, taken).where(uploads.c.expires_at <= now).limit(BATCH)
    while rows := await _rows(database, due):
        for *_, blob, in_use in rows:
            if not in_use:
                await blobs.delete(blob)
        which = uploads.c.id.in_([row.id for row in rows])
        count += await _delete_named(database, uploads, which, "upload expired", now)
    return count


async def expired_results(database: Database, blobs: Blobs, now: float) -> int:
    """Delete what is left of jobs past `expires_at`: transcripts, audio, events; they become `expired`."""
    count = 0
    due = select(jobs.c.id, jobs.c.tenant).where(jobs.c.status.in_(ENDED), jobs.c.expires_at <= now).limit(BATCH)
    while rows := await _rows(database, due):
        for job, tenant in rows:
            await _delete_files(database, blobs, job)
            async with database.begin() as connection:
                await connection.execute(delete(job_events).where(job_events.c.job == job))
                still = and_(jobs.c.id == job, jobs.c.status.in_(ENDED), jobs.c.expires_at <= now)
                done = await connection.execute(update(jobs).where(still).values(status="expired"))
                await audited(connection, now, ACTOR, "results expired", [(tenant, job)] * done.rowcount)
            count += done.rowcount
    return count


async def _delete_files(database: Database, blobs: Blobs, job: str) -> None:
    """Delete the blobs of a job's files, and how far they were heard."""
    kept = or_(*(column.is_not(None) for column in (job_files.c.blob, job_files.c.result, job_files.c.checkpoint)))
    due = select(job_files.c.number, job_files.c.blob, job_files.c.result).where(job_files.c.job == job, kept)
    while rows := await _rows(database, due.limit(BATCH)):
        for _, audio, result in rows:
            for blob in filter(None, (audio, result)):
                await blobs.delete(blob)
        mine = and_(job_files.c.job == job, job_files.c.number.in_([row.number for row in rows]))
        async with database.begin() as connection:
            await connection.execute(update(job_files).where(mine).values(blob=None, result=None, checkpoint=None))


async def old_jobs(database: Database, before: float, now: float) -> int:
    """Delete jobs whose results expired before that time, and webhooks from before it that are not under way."""
    due = and_(jobs.c.status == "expired", jobs.c.expires_at < before)
    gone = await _delete_due(database, jobs, due, "job forgotten", now)
    ended = and_(deliveries.c.status != "pending", deliveries.c.created_at < before)
    await _delete_due(database, deliveries, ended, "webhook forgotten", now)
    return gone


async def old_events(database: Database, before: float, now: float) -> int:
    """Delete events from before that time of jobs that have ended."""
    count = 0
    over = jobs.c.status.not_in(("queued", "processing"))
    due = select(job_events.c.job, job_events.c.number).join(jobs).where(job_events.c.at < before, over).limit(BATCH)
    while rows := await _rows(database, due):
        which = tuple_(job_events.c.job, job_events.c.number).in_([tuple(row) for row in rows])
        count += await _delete_counted(database, delete(job_events).where(which), "events", now)
    return count


async def old_requests(database: Database, before: float, now: float) -> int:
    """Delete what tells of usage before that time."""
    count = 0
    due = select(requests.c.id).where(requests.c.at < before).limit(BATCH)
    while rows := await _rows(database, due):
        which = requests.c.id.in_([row.id for row in rows])
        count += await _delete_counted(database, delete(requests).where(which), "requests", now)
    return count


async def orphans(database: Database, blobs: Blobs, before: float, now: float) -> int:
    """Delete blobs from before that time that no row names, and uploads that a killed process left half-written."""
    count = await blobs.discard_unfinished(before)
    batch: list[Stored] = []
    async for stored in blobs.listed():
        if stored.at < before:
            batch.append(stored)
        if len(batch) == BATCH:
            count += await _delete_orphans(database, blobs, batch, now)
            batch = []
    return count + await _delete_orphans(database, blobs, batch, now)


async def _delete_orphans(database: Database, blobs: Blobs, batch: list[Stored], now: float) -> int:
    keys = [stored.key for stored in batch]
    named: set[str] = set()
    for column in BLOBS:
        named.update(row[0] for row in await _rows(database, select(column).where(column.in_(keys))))
    lost = [key for key in keys if key not in named]
    for key in lost:
        await blobs.delete(key)
    async with database.begin() as connection:
        await audited(connection, now, ACTOR, "orphan deleted", [(key.partition("/")[0][:64], key) for key in lost])
    return len(lost)


async def _rows(database: Database, query: Any) -> list[Any]:
    async with database.reading() as connection:
        return list((await connection.execute(query)).all())


async def _delete_due(database: Database, table: Table, due: ColumnElement[bool], action: str, now: float) -> int:
    """Delete rows that have an id and a tenant, a few at a time: what belongs to them goes with them."""
    count = 0
    while rows := await _rows(database, select(table.c.id).where(due).limit(FEW)):
        which = and_(table.c.id.in_([row.id for row in rows]), due)
        count += await _delete_named(database, table, which, action, now)
    return count


async def _delete_named(database: Database, table: Table, which: ColumnElement[bool], action: str, now: float) -> int:
    """Delete rows that have an id and a tenant, each one audited."""
    async with database.begin() as connection:
        deletion = delete(table).where(which).returning(table.c.tenant, table.c.id)
        gone = [(tenant, subject) for tenant, subject in await connection.execute(deletion)]
        await audited(connection, now, ACTOR, action, gone)
    return len(gone)


async def _delete_counted(database: Database, deletion: Any, what: str, now: float) -> int:
    """Delete rows that nobody would name, the batch audited as one."""
    async with database.begin() as connection:
        done = await connection.execute(deletion)
        await audited(
            connection, now, ACTOR, f"{what} forgotten", [(ALL, f"{done.rowcount} {what}")] if done.rowcount else []
        )
    return int(done.rowcount)
