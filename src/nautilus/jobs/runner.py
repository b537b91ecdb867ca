"""The work of a job: its files, a group at a time, through the same pipeline as uploads.

    advance ─ the next files ──▶ (fetch) ──▶ pipeline, long ones with checkpoints ──▶ result blobs ──▶ rows

Everything here may be cut off at any moment and done again: results are written before the rows that name them, rows
are written by fenced transactions, and a long recording goes on from its last checkpoint. What may pass by itself (a
full queue, a store that is away) is answered with how long to wait; what can't is written to the file as its fault.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import structlog

from nautilus.errors import (
    BadRequestError,
    FetchError,
    ModelDiedError,
    ModelLoadError,
    NautilusError,
    NotReadyError,
    OverloadedError,
    StorageError,
    first_error,
)
from nautilus.hearing import Earlier, Task
from nautilus.jobs.job import OPEN, Fault, FileState, Job, JobLimits, Source
from nautilus.jobs.kept import WORTH, Kept
from nautilus.jobs.marks import Ends, Marks, part_key
from nautilus.jobs.records import Records
from nautilus.jobs.results import dumped, load_standing, load_words, loaded
from nautilus.jobs.runs import FileEnd, Runs, SupersededError
from nautilus.observe import JobMeters
from nautilus.pipeline import Pipeline
from nautilus.runtime.calibrate import cores
from nautilus.storage.blobs import Blobs, hashed, put_hashed
from nautilus.traces.trace import OFF, Attributes, Tracer, span
from nautilus.types import Transcript, Word

log = structlog.get_logger(__name__)

GROUP: Final = 1000
"""Files of one step."""
GIVE_WAY: Final = 1.0
"""Seconds after a request in which others are likely."""
TRIES: Final = 8
"""How often a file is tried that fails alone but in a way that may pass; other files go on meanwhile."""
DOUBTFUL: Final = (FetchError, ModelDiedError)
"""Such ways: its address may answer another time; the model's process may have been killed for something else."""
ALONE_AFTER: Final = 5
"""Tries without coming further after which a file is heard alone: it may be what stops the server."""
MOST_TRIES: Final = 25
GONE: Final = "The audio of this file is gone; send it again."
PASSING: Final = (OverloadedError, NotReadyError, ModelLoadError, StorageError)
"""What may pass by itself."""
TOLD: Final = (BadRequestError, FetchError, OverloadedError, NotReadyError)
"""Whose messages are for callers; all others tell of the inside."""


class Fetch(Protocol):
    """Brings what callers name by address."""

    def __call__(self, url: str, /) -> AsyncGenerator[bytes, None]:
        """Give the bytes behind an address. Raises BadRequestError for good, FetchError for now."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step."""

    left: bool
    """Whether there is more to do."""
    fault: Fault | None = None
    """What is to be waited for; if nothing is left, why the rest can't be done."""


@dataclass(slots=True)
class Trouble:
    """What kept a group's files from ending."""

    passing: Exception | None = None
    """What befalls all of them."""
    doubtful: dict[int, Exception] = field(default_factory=dict)
    """What befell single ones."""

    def waited_for(self, files: int) -> Exception | None:
        """Return what is to be waited for; nothing as long as some of the files go on."""
        if self.passing is None and len(self.doubtful) == files:
            return next(iter(self.doubtful.values()))
        return self.passing


@dataclass(frozen=True, slots=True)
class Books:
    """Where the work on jobs is written down."""

    records: Records
    runs: Runs
    blobs: Blobs
    kept: Kept
    threads: Executor
    """For what would hold the event loop for long."""
    meters: JobMeters = field(default_factory=JobMeters)
    traces: Tracer = OFF


class Runner:
    """Works on jobs, wherever in them it is asked to."""

    def __init__(
        self, books: Books, pipeline: Pipeline, plan: Callable[[Job], Task], fetch: Fetch, limits: JobLimits
    ) -> None:
        self._records = books.records
        self._runs = books.runs
        self._blobs = books.blobs
        self._kept = books.kept
        self._meters = books.meters
        self._threads = books.threads
        self._traces = books.traces
        self._pipeline = pipeline
        self._plan = plan
        self._fetch = fetch
        self._limits = limits
        self._scopes: dict[str, asyncio.Timeout] = {}

    def __repr__(self) -> str:
        return f"<Runner: {len(self._scopes)} jobs>"

    async def begin(self, job: str) -> Job | None:
        """Begin a run; None if there is nothing left to do."""
        return await self._runs.begin(job)

    async def advance(self, run: Job) -> Outcome:
        """Work on the job's next files until they have ended."""
        try:
            async with asyncio.timeout(None) as scope:
                self._scopes[run.id] = scope
                return await self._group(run)
        except SupersededError:
            return Outcome(left=False)
        except BadRequestError as error:  # the job cannot be done any more: its model is gone
            return Outcome(left=False, fault=_fault(error))
        except Exception as error:  # noqa: BLE001 - a job is never forgotten: it waits, and fails when it waited too long
            if isinstance(error, TimeoutError) and scope.expired():
                return Outcome(left=False)
            return Outcome(left=True, fault=_fault(error))
        finally:
            self._scopes.pop(run.id, None)

    async def finish(self, run: Job, gave_up: Fault | None) -> Outcome:
        """End the job: completed if any file is, otherwise failed; `gave_up` says why the rest was not heard."""
        try:
            files = await self._records.files(run.id, ("completed",), limit=1)
            failed = await self._records.files(run.id, ("failed",), limit=1)
            fault = gave_up or (failed[0].error if failed and not files else None)
            expires_at = self._records.now() + self._limits.keep_seconds
            await self._blobs.delete_all(f"{run.tenant}/parts/{run.id}")
            await self._runs.end(run, "failed" if fault else "completed", fault, expires_at)
        except SupersededError:
            return Outcome(left=False)
        except Exception as error:  # noqa: BLE001 - as above
            return Outcome(left=True, fault=_fault(error))
        return Outcome(left=False)

    def stop(self, job: str) -> None:
        """Stop working on a job at once, if it is worked on here."""
        if scope := self._scopes.get(job):
            scope.reschedule(asyncio.get_running_loop().time())

    async def partial(self, job: Job, file: FileState) -> tuple[Word, ...]:
        """Return the words that a recording has so far."""
        return await self._words(job, file)

    async def _group(self, run: Job) -> Outcome:
        files = _together(await self._records.files(run.id, OPEN, limit=GROUP))
        if not files:
            return Outcome(left=False)
        await self._runs.started(run, [file.number for file in files])
        about: Attributes = {"nautilus.job.id": run.id, "nautilus.job.run": run.runs, "nautilus.tenant": run.tenant}
        with self._traces.follow(run.trace, "job", about, kind="consumer"):
            return await self._worked_on(run, files)

    async def _worked_on(self, run: Job, files: Sequence[FileState]) -> Outcome:
        task = self._plan(run)
        audio = {file.number: file.blob for file in files}
        ends = Ends(self._runs, self._blobs, run, partial(self._forget, audio))
        with first_error():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ends.write(), name="write ended files")
                trouble = await self._end_each(run, files, task, ends)
                ends.close()
        if trouble.doubtful:
            await self._runs.tried(run, list(trouble.doubtful))
        error = trouble.waited_for(len(files))
        return Outcome(left=True, fault=_fault(error) if error else None)

    async def _end_each(self, run: Job, files: Sequence[FileState], task: Task, ends: Ends) -> Trouble:
        """Hear files, so many at once, until all are tried or something befalls all of them."""
        trouble, waiting, over = Trouble(), iter(files), asyncio.Event()

        async def work(number: int) -> None:
            await self._give_way(number, over)
            while not trouble.passing and (file := next(waiting, None)):
                try:
                    with span("file", {"nautilus.job.file": file.number, "nautilus.job.tries": file.tries}) as trace:
                        end = await self._end(run, file, task)
                        if end.error:
                            trace.fail(end.error.code)
                    ends.add(end)
                except PASSING as error:
                    trouble.passing = error
                except DOUBTFUL as error:
                    trouble.doubtful[file.number] = error
                await self._give_way(number, over)
            over.set()

        async with asyncio.TaskGroup() as workers:
            for number in range(min(self._limits.files_at_once, len(files))):
                workers.create_task(work(number))
        return trouble

    async def _give_way(self, number: int, over: asyncio.Event) -> None:
        """Wait while requests come, but for the first few of those who work, or until there is nothing to wait for."""
        if number < (self._limits.files_beside_requests or max(1, cores() // 2)):
            return
        while not over.is_set() and (wait := GIVE_WAY - self._pipeline.requests.since()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await over.wait()

    async def _end(self, run: Job, file: FileState, task: Task) -> FileEnd:
        """Hear one file; what is wrong with it becomes its fault."""
        if file.tries >= MOST_TRIES:
            message = f"The server stopped {file.tries} times while it worked on this file; it is not tried again."
            return FileEnd(file.number, file.seconds_done, error=Fault("interrupted", message))
        try:
            if file.blob is None:
                file = await self._fetched(run, file)
            elif file.digest is None and self._kept.is_wanted(run, file):
                file = await self._hashed(run, file, file.blob)
            return await self._transcribed(run, file, task)
        except (*PASSING, SupersededError):
            raise
        except Exception as error:
            if isinstance(error, DOUBTFUL) and file.tries + 1 < TRIES:
                raise
            return FileEnd(file.number, file.seconds_done, error=_fault(error))

    async def _fetched(self, run: Job, file: FileState) -> FileState:
        if file.url is None:
            raise BadRequestError(GONE, "file")
        key = audio_key(run.tenant, run.id, file.number)
        with span("fetch") as fetching:
            async with aclosing(self._fetch(file.url)) as chunks:
                size, digest = await put_hashed(self._blobs, key, chunks)
            fetching.note({"nautilus.bytes": size})
        await self._runs.fetched(run, file.number, Source(file.name, blob=key, bytes=size, digest=digest))
        return replace(file, blob=key, bytes=size, digest=digest)

    async def _hashed(self, run: Job, file: FileState, key: str) -> FileState:
        """Return what was uploaded with its size and digest: nobody has read it before."""
        try:
            size, digest = await hashed(self._blobs, key)
        except FileNotFoundError:
            raise BadRequestError(GONE, "file") from None
        await self._runs.fetched(run, file.number, Source(file.name, blob=key, bytes=size, digest=digest))
        return replace(file, bytes=size, digest=digest)

    async def _transcribed(self, run: Job, file: FileState, task: Task) -> FileEnd:
        """Hear a file, or take what was heard of the same audio before."""
        key = self._kept.key(run, file, task)
        stored = await self._kept.get(run.tenant, key) if key else None
        if stored is None:
            transcript = await self._heard(run, file, task)
            stored, seconds = await dumped(transcript, self._threads), transcript.audio.duration
            if key and seconds >= WORTH:
                await self._kept.put(run.tenant, key, stored)
        else:
            seconds = (await loaded(stored, self._threads)).audio.duration
        return FileEnd(file.number, seconds, f"{run.tenant}/results/{run.id}/{file.number}", stored)

    async def _heard(self, run: Job, file: FileState, task: Task) -> Transcript:
        earlier = None
        if file.checkpoint:
            with suppress(FileNotFoundError):  # swept away while the job waited for a very long time
                earlier = Earlier(load_standing(file.checkpoint["standing"]), await self._words(run, file))
        if earlier is None:
            file = replace(file, checkpoint=None)
        marks = Marks(self._runs, self._blobs, run, file, self._limits.checkpoint_seconds)
        try:
            async with self._blobs.file(file.blob or "") as audio:
                return await self._pipeline.transcribe(audio, task, marks.note, earlier)
        except FileNotFoundError:
            raise BadRequestError(GONE, "file") from None

    async def _words(self, job: Job, file: FileState) -> tuple[Word, ...]:
        words: list[Word] = []
        for part in (file.checkpoint or {}).get("parts", ()):
            words += load_words(await self._blobs.read_bytes(part_key(job, file.number, part)))
        return tuple(words)

    async def _forget(self, audio: Mapping[int, str | None], run: Job, ends: Sequence[FileEnd]) -> None:
        """Count files that ended, and delete the audio of those that went well."""
        for end in ends:
            self._meters.files["failed" if end.error else "completed"].add()
        if self._limits.keep_audio:
            return
        done = [end.number for end in ends if end.error is None]
        await self._blobs.delete_many([audio[number] or audio_key(run.tenant, run.id, number) for number in done])
        await self._runs.forget_audio(run.id, done)


def _together(files: Sequence[FileState]) -> Sequence[FileState]:
    """Return the files of the next step: one that often was not ended goes alone, so that it harms no other."""
    suspicious = [file for file in files if file.tries >= ALONE_AFTER]
    return suspicious[:1] or files


def audio_key(tenant: str, job: str, number: int) -> str:
    """Return where a file's audio lies."""
    return f"{tenant}/audio/{job}/{number}"


def _fault(error: Exception) -> Fault:
    """Return what callers are told of a failure."""
    if isinstance(error, TOLD):
        return Fault(error.code, str(error))
    error_id = uuid.uuid4().hex[:12]
    log.error("a file of a job failed", error_id=error_id, exc_info=error)
    code = error.code if isinstance(error, NautilusError) else NautilusError.code
    return Fault(code, f"The server could not transcribe this file. Quote error id {error_id} to its operator.")
