"""Uploads: recordings that are sent before the job that takes them.

    begun ──PUT──▶ there ──a job takes it──▶ the job's own
      └──────────────┴──expires_at──▶ swept away

One job takes an upload, once: from then on its blob is a file of the job, and goes as the job's files go.
"""

import time
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import LimitError, UploadNotFoundError
from nautilus.jobs.job import Fault, JobLimits, Source
from nautilus.jobs.rows import new_id
from nautilus.storage.blobs import Blobs
from nautilus.storage.database import Database
from nautilus.storage.tables import uploads

LONGEST: Final = 7 * 24 * 3600
"""Seconds for which S3 lets an address be presigned."""
AT_ONCE: Final = 500
"""Uploads that one statement names."""
FEW: Final = 100
"""Uploads that are looked for one by one; more are looked for in one list of all that wait."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that waits."""

    id: str
    name: str
    blob: str
    expires_at: float


class Uploads:
    """The uploads that no job has taken yet."""

    def __init__(
        self, database: Database, blobs: Blobs, limits: JobLimits, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._limits = limits
        self.now = now
        """The clock."""

    async def begin(self, tenant: str, name: str) -> Upload:
        """Make room for a recording. Raises LimitError where too many wait."""
        now = self.now()
        made = new_id("upload", now)
        upload = Upload(made, name, f"{tenant}/uploads/{made}/audio", now + self._limits.upload_seconds)
        row = {"id": made, "tenant": tenant, "name": name, "blob": upload.blob, "created_at": now}
        waiting = sa.select(sa.func.count()).where(uploads.c.tenant == tenant, uploads.c.expires_at > now)
        async with self._database.begin() as connection:
            if (await connection.execute(waiting)).scalar_one() >= self._limits.max_uploads:
                message = f"{self._limits.max_uploads} uploads wait already; begin jobs with some, or let them expire."
                raise LimitError(message, retry_after=60.0)
            await connection.execute(sa.insert(uploads).values(row | {"expires_at": upload.expires_at}))
        return upload

    async def address(self, upload: Upload) -> str | None:
        """Return where its store takes it directly; None where it comes through this server."""
        seconds = int(upload.expires_at - self.now())
        return await self._blobs.presigned_put(upload.blob, max(1, min(seconds, LONGEST)))

    async def receive(self, tenant: str, upload: str, chunks: AsyncIterable[bytes]) -> tuple[Upload, int]:
        """Store a recording, instead of what came before; return how many bytes it has. Raises UploadNotFoundError."""
        found = await self._waiting(tenant, [upload])
        if not found:
            raise UploadNotFoundError(upload)
        return found[upload], await self._blobs.put(found[upload].blob, chunks)

    async def found(self, tenant: str, sources: Sequence[Source]) -> Sequence[Source]:
        """Return sources with the blobs of their uploads; one that can't be had, or is named twice, gets its fault."""
        named = [source.upload for source in sources if source.upload]
        if not named:
            return sources
        waiting = await self._waiting(tenant, named)
        there = await self._there(tenant, waiting)
        seen: set[str] = set()
        return [_found(source, waiting, there, seen) if source.upload else source for source in sources]

    async def _waiting(self, tenant: str, ids: Sequence[str]) -> dict[str, Upload]:
        found: dict[str, Upload] = {}
        async with self._database.reading() as connection:
            for place in range(0, len(ids), AT_ONCE):
                named = uploads.c.id.in_(ids[place : place + AT_ONCE])
                query = sa.select(uploads.c.id, uploads.c.name, uploads.c.blob, uploads.c.expires_at)
                query = query.where(uploads.c.tenant == tenant, named, uploads.c.expires_at > self.now())
                found |= {row.id: Upload(*row) for row in await connection.execute(query)}
        return found

    async def _there(self, tenant: str, waiting: Iterable[str]) -> set[str]:
        """Return the blobs of a tenant's uploads that have come, of those that wait at least."""
        ids = list(waiting)
        places = [f"{tenant}/uploads/{upload}" for upload in ids] if len(ids) <= FEW else [f"{tenant}/uploads"]
        return {stored.key for place in places async for stored in self._blobs.listed(place)}


async def take(connection: AsyncConnection, tenant: str, sources: Sequence[Source]) -> Sequence[Source]:
    """Make uploads a job's own, in the transaction that begins it; one that another job took first gets its fault."""
    named = [source.upload for source in sources if source.upload and source.blob]
    taken: set[str] = set()
    for place in range(0, len(named), AT_ONCE):
        mine = (uploads.c.tenant == tenant, uploads.c.id.in_(named[place : place + AT_ONCE]))
        taken.update(await connection.scalars(sa.delete(uploads).where(*mine).returning(uploads.c.id)))
    return [
        _lost(source) if source.upload and source.blob and source.upload not in taken else source for source in sources
    ]


def _found(source: Source, waiting: dict[str, Upload], there: set[str], seen: set[str]) -> Source:
    upload = waiting.get(source.upload or "")
    if upload is None or upload.id in seen:
        return _lost(source)
    name = upload.name if source.name == source.upload else source.name
    if upload.blob not in there:
        message = f"Nothing was sent to the upload {upload.id}; PUT the recording to its url first."
        return replace(source, name=name, error=Fault("upload_empty", message))
    seen.add(upload.id)
    return replace(source, name=name, blob=upload.blob)


def _lost(source: Source) -> Source:
    error = UploadNotFoundError(source.upload or "")
    return replace(source, blob=None, error=Fault(error.code, str(error)))
