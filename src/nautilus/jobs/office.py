"""Everything that jobs need, opened beside the models: a server answers requests before its jobs run.

open_place (database, blobs) ──▶ records ──▶ runner ──▶ workflows ──▶ jobs
                                                          └── servers (signs of life), the sweeper, the courier
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import NotReadyError, StorageError, UnsupportedError
from nautilus.hearing import Task
from nautilus.jobs.job import Job, JobLimits
from nautilus.jobs.records import Records
from nautilus.jobs.runner import Runner
from nautilus.jobs.servers import Servers
from nautilus.jobs.service import Jobs
from nautilus.jobs.workflow import open_workflows
from nautilus.outside.door import Outside
from nautilus.outside.fetch import fetch
from nautilus.outside.limits import OutsideLimits
from nautilus.pipeline import Pipeline
from nautilus.storage.place import open_place, workflow_url
from nautilus.storage.settings import StorageSettings

log = structlog.get_logger(__name__)

REQUEUE_EVERY = 60.0
"""Seconds between two looks for jobs that were accepted but not enqueued."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What jobs stand on."""

    storage: StorageSettings
    limits: JobLimits
    pipeline: Pipeline
    plan: Callable[[Job], Task]
    """What is to be done with a job's files. Raises UnknownModelError."""
    outside: OutsideLimits
    max_bytes: int
    """Largest file that is fetched, where the limits of `outside` name none."""
    threads: Executor
    version: str


class Office:
    """Where jobs are done, once it is open."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._jobs: Jobs | None = None

    @property
    def jobs(self) -> Jobs:
        """The jobs. Raises NotReadyError until they are open, UnsupportedError where they never are."""
        if not self._needs.limits.enabled:
            raise UnsupportedError("This server takes no jobs; its operator can enable them (NAUTILUS_JOBS__ENABLED).")
        if self._jobs is None:
            raise NotReadyError("jobs", "opening the database")
        return self._jobs

    async def work(self) -> NoReturn:
        """Open everything and work on jobs until cancelled; jobs that are not done then wait for the next server.

        Raises ConfigurationError where the database or the store can't be used as they are set.
        """
        limits = self._needs.limits
        async with open_place(self._needs.storage) as place, Outside(self._needs.outside) as outside:
            at_most = self._needs.outside.max_bytes or self._needs.max_bytes
            bring = partial(fetch, outside, at_most=at_most)
            records = Records(place.database, self._on_end)
            runner = Runner(records, place.blobs, self._needs.pipeline, self._needs.plan, bring, limits)
            servers = Servers(place.database, self._needs.version, limits)
            url = workflow_url(self._needs.storage)
            try:
                async with open_workflows(url, servers.id, runner, limits, self._needs.threads) as workflows:
                    self._jobs = Jobs(records, place.blobs, runner, workflows, limits)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(servers.live(workflows.recover), name="show signs of life")
                        await self._requeue(self._jobs)
            finally:
                self._jobs = None
                await self._leave(servers)

    async def _on_end(self, connection: AsyncConnection, job: Job) -> None:
        """Promise a webhook, in the transaction that ends a job."""

    async def _requeue(self, jobs: Jobs) -> NoReturn:
        while True:
            try:
                await jobs.requeue()
            except StorageError as error:
                log.warning("jobs could not be looked through: the database is away", reason=str(error))
            await asyncio.sleep(REQUEUE_EVERY)

    async def _leave(self, servers: Servers) -> None:
        try:
            await asyncio.shield(servers.sign_off())
        except StorageError as error:
            log.warning("could not sign off: the database is away", reason=str(error))
