"""What the web and the command line ask of jobs."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from nautilus.errors import JobConflictError, ResultGoneError
from nautilus.jobs.job import OPEN, FileState, Job, JobLimits, JobRequest, Source, Status
from nautilus.jobs.records import Event, Page
from nautilus.jobs.results import loaded
from nautilus.jobs.rows import new_id
from nautilus.jobs.runner import Books, Runner, audio_key
from nautilus.jobs.uploads import Uploads
from nautilus.jobs.workflow import Workflows
from nautilus.segments import segments_of
from nautilus.storage.blobs import Blobs, put_hashed
from nautilus.types import AudioFacts, Transcript

log = structlog.get_logger(__name__)

FILES_AT_ONCE: Final = 500
EVENT_POLL: Final = 0.5
"""Seconds between two looks for new events."""


class Arrival:
    """The files of a job, while they come."""

    def __init__(self, job: str, tenant: str, blobs: Blobs) -> None:
        self.id = job
        self.tenant = tenant
        self.sources: list[Source] = []
        self.accepted = False
        self._blobs = blobs

    async def take(self, name: str, chunks: AsyncIterable[bytes]) -> None:
        """Store one file as it comes. Raises StorageError."""
        key = audio_key(self.tenant, self.id, len(self.sources))
        size, digest = await put_hashed(self._blobs, key, chunks)
        self.sources.append(Source(name, blob=key, bytes=size, digest=digest))


class Jobs:
    """A tenant's jobs: begun, watched, read and ended."""

    def __init__(self, books: Books, uploads: Uploads, runner: Runner, workflows: Workflows, limits: JobLimits) -> None:
        self.uploads = uploads
        """What was sent for jobs that are not begun."""
        self._records = books.records
        self._blobs = books.blobs
        self._meters = books.meters
        self._threads = books.threads
        self._runner = runner
        self._workflows = workflows
        self._limits = limits

    @property
    def limits(self) -> JobLimits:
        """The bounds."""
        return self._limits

    def now(self) -> float:
        """Return the time by the clock of jobs."""
        return self._records.now()

    @asynccontextmanager
    async def arriving(self, tenant: str) -> AsyncIterator["Arrival"]:
        """Take in a job's files; what came of a job that is not submitted in the block is deleted."""
        arrival = Arrival(new_id("job", self.now()), tenant, self._blobs)
        try:
            yield arrival
        finally:
            if not arrival.accepted:
                await self._blobs.delete_all(f"{tenant}/audio/{arrival.id}")

    async def submit(self, arrival: "Arrival", request: JobRequest, most: int = 0) -> Job:
        """Accept a job; from now on it is not lost. The same idempotency key gives the same job.

        Raises LimitError if too many are open, `most` or as the settings have it, and JobConflictError if the key came
        with something else.
        """
        request = replace(request, fingerprint=_fingerprint(request, arrival.sources))
        most = min(most or self._limits.max_queued, self._limits.max_queued)
        sources = await self.uploads.found(arrival.tenant, arrival.sources)
        job, arrival.accepted = await self._records.add(arrival.id, arrival.tenant, request, sources, most)
        if arrival.accepted:
            self._meters.accepted.add()
            await self._enqueue(job)
        return job

    async def requeue(self) -> None:
        """Enqueue what was accepted but not enqueued, as its server stopped in between; note what broke off there."""
        for job in await self._records.waiting():
            await self._workflows.enqueue(job)
        await self.take_part()
        self._workflows.broken.update(await self._workflows.find_broken())

    async def take_part(self) -> dict[str, int]:
        """Work on the jobs of all servers from when there are any; return how many have not ended, by status."""
        counted = await self._records.count()
        if counted:
            await self._workflows.start()
        return counted

    async def take_up(self) -> None:
        """Enqueue anew what broke off here, as the disk was full or the like; once that can be written down."""
        for broken in tuple(self._workflows.broken):
            job = await self._records.find(broken)
            if job is not None and job.status in OPEN:
                await self._workflows.enqueue(job)
            self._workflows.broken.discard(broken)

    async def get(self, tenant: str, job: str) -> Job:
        """Return a job. Raises JobNotFoundError."""
        return await self._records.get(tenant, job)

    async def position(self, job: Job) -> int | None:
        """Return how many of the tenant's jobs go first; None for one that does not wait."""
        return await self._records.position(job) if job.status == "queued" else None

    async def page(self, tenant: str, status: Status | None, after: str | None, limit: int) -> Page:
        """Return jobs, the youngest first, older than the job `after`."""
        return await self._records.page(tenant, status, after, limit)

    async def files(self, job: Job, statuses: Sequence[Status], after: int, limit: int) -> tuple[FileState, ...]:
        """Return some of a job's files in order, behind number `after`."""
        return await self._records.files(job.id, statuses, after, limit)

    async def transcript(self, job: Job, number: int) -> Transcript:
        """Return a file's transcript. Raises JobConflictError while there is none, ResultGoneError when it is gone."""
        file = await self._records.file(job.id, number)
        if job.status == "expired":
            raise ResultGoneError
        if file.status == "failed" and file.error:
            raise JobConflictError(f"The file could not be transcribed: {file.error.message}")
        if file.result is None:
            raise JobConflictError(f"The file is {file.status}; its result is not there yet.")
        return await loaded(await self._blobs.read_bytes(file.result), self._threads)

    async def partial(self, job: Job, number: int) -> Transcript:
        """Return what is heard of a file so far."""
        file = await self._records.file(job.id, number)
        if file.result is not None:
            return await self.transcript(job, number)
        segments = segments_of(await self._runner.partial(job, file))
        text = " ".join(segment.text for segment in segments)
        facts = AudioFacts(file.seconds_done, 0, 0, "", "", file.seconds_done)
        return Transcript(text, segments, dict(job.form).get("model", ""), None, facts)

    async def transcripts(self, job: Job) -> AsyncIterator[tuple[FileState, Transcript | None]]:
        """Give all files in order, each with its transcript if it has one."""
        if job.status == "expired":
            raise ResultGoneError
        after = -1
        while files := await self._records.files(job.id, after=after, limit=FILES_AT_ONCE):
            for file in files:
                stored = await self._blobs.read_bytes(file.result) if file.result else None
                yield file, await loaded(stored, self._threads) if stored else None
            after = files[-1].number

    async def cancel(self, tenant: str, job: str) -> Job:
        """Cancel a job. Raises JobConflictError for one that has ended."""
        cancelled = await self._records.cancel(tenant, job, self._records.now() + self._limits.keep_seconds)
        self._runner.stop(job)
        return cancelled

    async def retry(self, tenant: str, job: str) -> Job:
        """Try the files again that did not end well. Raises JobConflictError where there are none."""
        queued = await self._records.retry(tenant, job)
        await self._enqueue(queued)
        return queued

    async def _enqueue(self, job: Job) -> None:
        """Enqueue a job that is accepted: what fails here is done by `requeue`, and is no failure of the request."""
        try:
            await self._workflows.enqueue(job)
        except Exception as error:  # noqa: BLE001 - DBOS's and its database's
            log.warning("a job waits to be enqueued", job=job.id, reason=repr(error))

    async def delete(self, tenant: str, job: str, actor: str) -> None:
        """Stop a job and delete it with all that belongs to it; `actor` did it."""
        uploaded = await self._records.delete(tenant, job, actor)
        self._runner.stop(job)
        for kind in ("audio", "parts", "results"):
            await self._blobs.delete_all(f"{tenant}/{kind}/{job}")
        for blob in uploaded:
            await self._blobs.delete(blob)

    async def events(self, tenant: str, job: str, after: int) -> AsyncIterator[Event]:
        """Give what happened to a job behind event number `after`, then what happens, until it has ended."""
        while True:
            status = (await self._records.get(tenant, job)).status
            while events := await self._records.events(job, after):
                for event in events:
                    yield event
                after = events[-1].number
            if status not in OPEN:
                return
            await asyncio.sleep(EVENT_POLL)


def _fingerprint(request: JobRequest, sources: Sequence[Source]) -> str:
    """Return what is the same exactly for requests that ask for the same."""
    files = [(source.upload,) if source.upload else (source.name, source.digest, source.url) for source in sources]
    asked = (request.form, dict(request.metadata), request.webhook_url, request.priority, files)
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
