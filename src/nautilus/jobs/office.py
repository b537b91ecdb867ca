"""Everything that outlives a request, opened beside the models: a server answers requests before its jobs run.

open_place (database, blobs) ──▶ records, runs ──▶ runner ──▶ workflows ──▶ jobs
├── servers: signs of life, taking over from the dead
├── courier: webhooks
├── sweep: what is due to go
└── usage: who used how much
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar, cast

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import NautilusError, NotReadyError, StorageError, UnsupportedError, first_error
from nautilus.hearing import Task
from nautilus.jobs.courier import Courier, Told
from nautilus.jobs.deliveries import Notice, enqueue
from nautilus.jobs.document import job_document
from nautilus.jobs.job import Job, JobLimits
from nautilus.jobs.kept import Kept
from nautilus.jobs.letters import DeadLetters
from nautilus.jobs.records import Records
from nautilus.jobs.rows import OnEnd
from nautilus.jobs.runner import Books, Runner
from nautilus.jobs.runs import Runs
from nautilus.jobs.servers import Servers
from nautilus.jobs.service import Jobs
from nautilus.jobs.uploads import Uploads
from nautilus.jobs.webhook import Ending, WebhookSettings, payload
from nautilus.jobs.workflow import Workflows, open_workflows
from nautilus.observe import JobMeters
from nautilus.outside.door import Outside
from nautilus.outside.fetch import fetch
from nautilus.outside.limits import OutsideLimits
from nautilus.pipeline import Pipeline
from nautilus.storage.cache import CacheLimits, ResultCache
from nautilus.storage.place import Place, open_place, workflow_url
from nautilus.storage.settings import StorageSettings
from nautilus.storage.sweep import sweep
from nautilus.storage.usage import UsageLog, Use, open_usage
from nautilus.traces.trace import Tracer

Room = TypeVar("Room")

log = structlog.get_logger(__name__)

REQUEUE_EVERY = 60.0
"""Seconds between two looks for jobs that were accepted but not enqueued."""
TAKE_UP_EVERY = 5.0
"""Seconds between two tries to take up what broke off."""
COUNT_EVERY = 5.0
"""Seconds between two counts of all servers' jobs; a server that had none yet helps from then on."""
WORKFLOWS_KEPT = 24 * 3600.0
"""Seconds that DBOS remembers a workflow that has ended: nothing asks for it."""
SWEEP_EVERY = 600.0
"""Seconds between two looks for what is due to go."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the office stands on."""

    storage: StorageSettings
    limits: JobLimits
    outside: OutsideLimits
    webhooks: WebhookSettings
    max_bytes: int
    """Largest file that is fetched, where the limits of `outside` name none."""
    pipeline: Pipeline
    plan: Callable[[Job], Task]
    """What is to be done with a job's files. Raises UnknownModelError."""
    charge: Callable[[str, float], None]
    """Told of a tenant's seconds of audio that jobs were done with."""
    fingerprint: Callable[[str], str]
    """A name for a model as it is, that another version of it does not have."""
    threads: Executor
    version: str
    meters: JobMeters
    traces: Tracer


class Office:
    """Where jobs are done, once it is open."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._jobs: Jobs | None = None
        self._letters: DeadLetters | None = None
        self._place: Place | None = None
        self._usage: UsageLog | None = None

    @property
    def jobs(self) -> Jobs:
        """The jobs. Raises NotReadyError until they are open, UnsupportedError where they never are."""
        return self._need(self._jobs)

    @property
    def letters(self) -> DeadLetters:
        """The webhooks that were given up. Raises NotReadyError, UnsupportedError, as `jobs` does."""
        return self._need(self._letters)

    @property
    def place(self) -> Place:
        """The database and the blobs. Raises NotReadyError until they are open."""
        if self._place is None:
            raise NotReadyError("storage", "opening the database")
        return self._place

    def _need(self, room: Room | None) -> Room:
        if not self._needs.limits.enabled:
            raise UnsupportedError("This server takes no jobs; its operator can enable them (NAUTILUS_JOBS__ENABLED).")
        if room is None:
            raise NotReadyError("jobs", "opening the database")
        return room

    def used(self, use: Use) -> None:
        """Note a use; never waits and never fails."""
        if self._usage is not None:
            self._usage.add(use)

    async def work(self, loaded: asyncio.Event) -> NoReturn:
        """Open everything and work until cancelled; jobs that are not done then wait for the next server.

        Jobs begin when the models are loaded, so that they don't hold these up.

        Raises ConfigurationError where the database or the store can't be used as they are set.
        """
        async with open_place(self._needs.storage) as place, open_usage(place.database) as usage:
            self._place, self._usage = place, usage
            try:
                with first_error():
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._sweep(place), name="delete what is due to go")
                        if self._needs.limits.enabled:
                            await loaded.wait()
                            await self._work_on_jobs(place)
                        await asyncio.Event().wait()  # until cancelled
            finally:
                self._place = self._usage = None
        raise AssertionError

    async def _work_on_jobs(self, place: Place) -> NoReturn:
        needs, limits, database = self._needs, self._needs.limits, place.database
        servers = Servers(database, needs.version, limits)
        async with Outside(needs.outside) as outside:
            courier = Courier(database, outside, needs.webhooks, Told(needs.meters.webhooks, needs.traces))
            on_end = OnEnd(self._promise, partial(self._told, courier))
            records, runs = Records(database, on_end), Runs(database, on_end)
            bounds = CacheLimits(needs.storage.cache_bytes, needs.storage.cache_seconds)
            kept = Kept(ResultCache(database, place.blobs, bounds), needs.fingerprint, needs.meters.kept)
            bring = partial(fetch, outside, at_most=needs.outside.max_bytes or needs.max_bytes)
            books = Books(records, runs, place.blobs, kept, needs.threads, needs.meters, needs.traces)
            runner = Runner(books, needs.pipeline, needs.plan, bring, limits)
            workflows: Workflows | None = None
            try:
                url = workflow_url(needs.storage)
                async with open_workflows(url, servers.id, runner, limits, needs.threads) as workflows:
                    self._jobs = Jobs(books, Uploads(database, place.blobs, limits), runner, workflows, limits)
                    self._letters = DeadLetters(database, courier.wake)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(servers.live(workflows.recover), name="show signs of life")
                        tasks.create_task(courier.run(), name="send webhooks")
                        tasks.create_task(_again("count jobs", COUNT_EVERY, partial(_count, self._jobs, needs.meters)))
                        tasks.create_task(_again("forget workflows", SWEEP_EVERY, partial(_forget, workflows)))
                        tasks.create_task(_again("take up what broke off", TAKE_UP_EVERY, self._jobs.take_up))
                        await _again("look for jobs that wait", REQUEUE_EVERY, self._jobs.requeue)
            finally:
                self._jobs = self._letters = None
                await _leave(servers, unfinished=workflows is not None and workflows.unfinished)
        raise AssertionError

    async def _promise(self, connection: AsyncConnection, job: Job) -> None:
        """Promise a webhook, in the transaction that ends a job."""
        if job.webhook_url:
            ended, ending = job.completed_at or time.time(), cast("Ending", job.status)
            body = payload(ending, job_document(job, ended), ended)
            notice = Notice(job.tenant, job.id, job.runs, ending, job.webhook_url, body, job.trace)
            await enqueue(connection, notice, ended)

    def _told(self, courier: Courier, job: Job) -> None:
        """Note that a job has ended and what it used, and have its webhook sent."""
        courier.wake()
        self._needs.meters.ended[job.status].add()
        ended = job.completed_at or time.time()
        use = Use(
            request=job.id,
            at=ended,
            tenant=job.tenant,
            key=job.key,
            kind="job",
            model=self._model(job),
            seconds=job.seconds_done,
            latency=ended - job.created_at,
            status=200 if job.status == "completed" else 500 if job.status == "failed" else 499,
        )
        self.used(use)
        self._needs.charge(job.tenant, job.seconds_done)

    def _model(self, job: Job) -> str:
        """Return the model that a job was heard by, or what it asked for if that is gone."""
        try:
            return self._needs.plan(job).model
        except NautilusError:
            return dict(job.form).get("model", "")

    async def _sweep(self, place: Place) -> NoReturn:
        async def go() -> None:
            await sweep(place.database, place.blobs, self._needs.storage, time.time())

        await _again("delete what is due to go", SWEEP_EVERY, go)
        raise AssertionError


async def _again(what: str, every: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
    """Do something every so many seconds; what fails is tried another time, and takes nothing else down."""
    while True:
        try:
            await work()
        except StorageError as error:
            log.warning("the storage is away", work=what, reason=str(error))
        except Exception:
            log.exception("housekeeping failed", work=what)
        await asyncio.sleep(every)


async def _count(jobs: Jobs, meters: JobMeters) -> None:
    counted = await jobs.take_part()
    meters.waiting, meters.running = counted.get("queued", 0), counted.get("processing", 0)


async def _forget(workflows: Workflows) -> None:
    await workflows.forget(time.time() - WORKFLOWS_KEPT)


async def _leave(servers: Servers, *, unfinished: bool) -> None:
    try:
        await asyncio.shield(servers.sign_off(unfinished=unfinished))
    except StorageError as error:
        log.warning("could not sign off: the database is away", reason=str(error))
