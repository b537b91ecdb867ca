"""Jobs as durable workflows of DBOS: what has been enqueued runs to its end, whatever happens to this process.

    enqueue ──▶ queue (a partition for each tenant) ──▶ transcribe_job:  begin ─▶ advance* ─▶ finish
                                                                         └── each a step on the server's event loop

DBOS has threads and an event loop of its own; the work itself goes on on the server's. It remembers which steps are
done; how far a step came is in our own tables (`records`), so a step that is cut off goes on where it stood. It is
started by the first job that this server sees: a server without any is spared its memory, and its looking for work
several times a second.

`VERSION` names the shape of the workflow, not the release: a new release goes on with the jobs of the old one as long
as the steps and their order stay. Source: docs.dbos.dev/python, queues and workflow recovery.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import structlog

from nautilus.errors import StorageError
from nautilus.jobs.job import Fault, Job, JobLimits
from nautilus.jobs.runner import Outcome, Runner

log = structlog.get_logger(__name__)

VERSION: Final = "1"
QUEUE: Final = "jobs"
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
FORGOTTEN_AT_ONCE: Final = 500
CLAIMERS: Final = "queue-worker-"
"""How DBOS's names of the threads begin that take jobs from queues."""
CLAIMED_WITHIN: Final = 2.0
"""Seconds that these are waited for at the end; with a database that does not answer they take longer."""

Result = TypeVar("Result")
OnLoop: TypeAlias = Callable[[Coroutine[Any, Any, Result]], Awaitable[Result]]


class Workflows:
    """The durable side of jobs."""

    def __init__(self, launch: Callable[[], "Launched"], threads: Executor, broken: set[str]) -> None:
        self.broken = broken
        """Jobs whose workflow broke off here: what came of a step could not be written down."""
        self._launch = launch
        self._launched: asyncio.Future[Launched] | None = None
        self._threads = threads

        self.unfinished = False
        """Whether what was stopped leaves jobs to others."""

    @property
    def started(self) -> bool:
        """Whether jobs may be worked on here."""
        return self._launched is not None

    async def start(self) -> "Launched":
        """Work on what is enqueued, by whichever server. Raises StorageError if the database can't be used."""
        if self._launched is None or (self._launched.done() and self._launched.exception()):
            self._launched = asyncio.get_running_loop().run_in_executor(self._threads, self._launch)
        return await asyncio.shield(self._launched)  # for all, whoever asked first and has gone

    async def stop(self) -> None:
        """Leave jobs as they stand."""
        if self._launched:
            with suppress(StorageError):
                launched = await self._launched
                self.unfinished = True  # until it is known better
                self.unfinished = await self._in_thread(launched.stop)

    async def enqueue(self, job: Job) -> None:
        """Let a job be worked on, here or by another server on the same database. Twice the same does nothing."""
        launched = await self.start()
        await self._in_thread(partial(launched.enqueue, job))

    async def recover(self, servers: list[str]) -> None:
        """Queue again what servers that are gone were working on."""
        launched = await self.start()
        await self._in_thread(partial(launched.recover, servers))

    async def forget(self, before: float) -> int:
        """Delete what is remembered of workflows that ended before then, seconds since 1970; return how many."""
        if not self.started:
            return 0
        launched = await self.start()
        return await self._in_thread(partial(launched.forget, datetime.fromtimestamp(before, UTC).isoformat()))

    async def find_broken(self) -> set[str]:
        """Return the jobs whose workflow failed, here or elsewhere, of late, and for which no other runs or waits."""
        return await self._in_thread((await self.start()).find_broken) if self.started else set()

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@dataclass(frozen=True, slots=True)
class Launched:
    """DBOS at work. Blocking: called in threads."""

    dbos: Any
    """The class, by which everything is done …"""
    instance: Any
    """… and the only one there is of it."""
    url: str
    server: str
    transcribe_job: Callable[..., Any]

    def enqueue(self, job: Job) -> None:
        """See `Workflows`."""
        from dbos import SetEnqueueOptions, SetWorkflowID

        options = SetEnqueueOptions(queue_partition_key=job.tenant, priority=job.priority)
        with SetWorkflowID(f"{job.id}.{job.runs}"), options:
            self.dbos.enqueue_workflow(QUEUE, self.transcribe_job, job.id)

    def recover(self, servers: list[str]) -> None:
        """See `Workflows`."""
        self.dbos._recover_pending_workflows(servers)  # noqa: SLF001 - it has no other name

    def find_broken(self) -> set[str]:
        """See `Workflows`."""
        failed = self._jobs("ERROR")
        return failed - self._jobs("PENDING", "ENQUEUED") if failed else failed

    def forget(self, before: str) -> int:
        """See `Workflows`; `before` is in ISO 8601."""
        count = 0
        only = {"status": ["SUCCESS", "ERROR", "CANCELLED"], "load_input": False, "load_output": False}
        while ended := self.dbos.list_workflows(completed_before=before, limit=FORGOTTEN_AT_ONCE, **only):
            self.dbos.delete_workflows([workflow.workflow_id for workflow in ended])
            count += len(ended)
        return count

    def stop(self) -> bool:
        """Stop all threads; return whether work of this server is left, as far as one can tell."""
        from dbos import DBOSClient

        self._stop_claiming()
        self.dbos.destroy(destroy_registry=True)
        try:  # only now: until then a thread may have begun another job
            client = DBOSClient(system_database_url=self.url, retry_connection_errors=False)
            try:
                return bool(client.list_workflows(status="PENDING", executor_id=self.server, load_input=False))
            finally:
                client.destroy()
        except Exception as error:  # noqa: BLE001 - DBOS's and its database's
            log.warning("what is left to others is not known: they will look", reason=repr(error))
            return True

    def _stop_claiming(self) -> None:
        """Let the threads end that take jobs from queues: these begin on a loop that `destroy` closes first."""
        for event in self.instance.background_thread_stop_events:
            event.set()
        for thread in threading.enumerate():
            if thread.name.startswith(CLAIMERS):
                thread.join(CLAIMED_WITHIN)

    def _jobs(self, *statuses: str) -> set[str]:
        found = self.dbos.list_workflows(status=[*statuses], load_input=False, load_output=False)
        return {workflow.workflow_id.rpartition(".")[0] for workflow in found}


@asynccontextmanager
async def open_workflows(
    url: str, server: str, runner: Runner, limits: JobLimits, threads: Executor
) -> AsyncIterator[Workflows]:
    """Run the jobs of a database for the length of the block; `url` is where DBOS keeps its own tables.

    At the end, jobs that are worked on are left as they stand: `recover` takes them up, here or elsewhere.
    """
    broken = set[str]()
    work = Work(runner, limits, asyncio.get_running_loop(), broken)
    workflows = Workflows(partial(_launch, url, server, work), threads, broken)
    try:
        yield workflows
    finally:
        await workflows.stop()


@dataclass(frozen=True, slots=True)
class Work:
    """What DBOS's workflows do, and where."""

    runner: Runner
    limits: JobLimits
    loop: asyncio.AbstractEventLoop
    """The server's."""
    broken: set[str]
    """Touched on that loop only."""


def _launch(url: str, server: str, work: Work) -> Launched:
    from dbos import DBOS  # late: a third of a second, 36 MB

    instance = DBOS(
        config={
            "name": "nautilus",
            "system_database_url": url,
            "application_version": VERSION,
            "executor_id": server,
            "log_level": "WARNING",
        }
    )
    launched, limits = Launched(DBOS, instance, url, server, _define(DBOS, work)), work.limits
    try:
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=limits.at_once,
            partition_concurrency=limits.at_once_per_tenant,
            polling_interval_sec=limits.poll_seconds,
            on_conflict="always_update",
        )
    except Exception as error:
        DBOS.destroy(destroy_registry=True)
        raise StorageError(f"The database of workflows cannot be used: {error}") from error
    return launched


def _define(dbos: Any, work: Work) -> Callable[..., Any]:
    """Return the workflow of one job."""
    runner, patience = work.runner, work.limits.patience

    async def on_loop(part: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(part, work.loop))

    async def transcribe_job(job: str) -> None:
        run = await _begun(lambda: on_loop(runner.begin(job)))  # no step: each execution is a run of its own
        if run is None:
            return

        async def advance() -> dict[str, Any]:
            return _stored(await on_loop(runner.advance(run)))

        async def finish() -> dict[str, Any]:
            return _stored(await on_loop(runner.finish(run, gave_up)))

        try:
            gave_up = await _until_done(dbos.step(name="advance")(advance), dbos.sleep_async, patience)
            await _until_done(dbos.step(name="finish")(finish), dbos.sleep_async, patience)
        except Exception as error:  # our steps raise nothing: DBOS could not write down what came of one
            log.warning("a job broke off: it is taken up again", job=job, reason=repr(error))
            work.loop.call_soon_threadsafe(work.broken.add, job)
            raise

    workflow: Callable[..., Any] = dbos.workflow(name="transcribe_job", max_recovery_attempts=None)(transcribe_job)
    return workflow


async def _begun(begin: Callable[[], Awaitable[Job | None]]) -> Job | None:
    """Begin, however long the database is away."""
    wait = FIRST_WAIT
    while True:
        try:
            return await begin()
        except StorageError as error:
            log.warning("a job cannot begin: the database is away", reason=str(error))
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT, 2 * wait)


async def _until_done(
    step: Callable[[], Awaitable[dict[str, Any]]], sleep: Callable[[float], Awaitable[None]], patience: float
) -> Fault | None:
    """Repeat a step until nothing is left; return why the rest can't be done, or what lasted too long."""
    waited, wait = 0.0, FIRST_WAIT
    while True:
        outcome = await step()
        if not outcome["left"]:
            return Fault.read(outcome["fault"])
        if outcome["fault"] is None:
            waited, wait = 0.0, FIRST_WAIT
            continue
        if waited >= patience:
            return Fault.read(outcome["fault"])
        await sleep(wait)
        waited, wait = waited + wait, min(LONGEST_WAIT, 2 * wait)


def _stored(outcome: Outcome) -> dict[str, Any]:
    return {"left": outcome.left, "fault": outcome.fault.body() if outcome.fault else None}
