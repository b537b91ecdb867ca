"""The only file that knows concrete classes: settings in, a running core out.

    async with assemble(settings) as core: ...

Everything that runs (decoder processes, threads, models) is started and ended by this block.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from threadpoolctl import threadpool_limits

from nautilus import __version__
from nautilus.access.fixed import read_keys
from nautilus.access.keyring import Keyring
from nautilus.access.limits import Limiter, open_limiter
from nautilus.access.secrets import ClientSecrets
from nautilus.ahead import job_of
from nautilus.audio.sandbox import Sandbox, open_sandbox
from nautilus.engines.base import Engine, Report
from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.load import fingerprint
from nautilus.errors import UnknownModelError
from nautilus.hearing import Task
from nautilus.jobs.job import Job as JobOfFiles
from nautilus.jobs.office import Needs, Office
from nautilus.jobs.service import Jobs
from nautilus.observe import Meters
from nautilus.pipeline import Pipeline
from nautilus.runtime.calibrate import cores
from nautilus.runtime.gpus import GpuMemory, Gpus
from nautilus.runtime.isolated import open_isolated_lane
from nautilus.runtime.lane import Lane
from nautilus.runtime.local import open_local_lane
from nautilus.runtime.pool import ModelPool, open_pool
from nautilus.settings import Settings
from nautilus.stream.conversations import Conversations, open_conversations
from nautilus.stream.drain import Drain
from nautilus.stream.second import SecondPass
from nautilus.traces.settings import TraceSettings, are_wanted
from nautilus.traces.trace import OFF, Tracer
from nautilus.types import Claim, Options, Priority
from nautilus.wire.forms import TranscriptionForm, read_form

NO_MODEL: Final = "none"
"""What a client says to have no second pass."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What requests may name, and what is done if they name nothing."""

    settings: Settings
    catalog: Catalog
    default_model: str
    final_model: str | None
    """What live utterances are heard by once more, unless their client says otherwise."""

    def resolve(self, name: str | None) -> str:
        """Return the model that a request means. Raises UnknownModelError for one that it may not use."""
        if not name or name == self.default_model or name in (*self.settings.aliases, self.settings.model):
            return self.default_model
        allowed = self.models()
        if name in allowed:
            return name
        raise UnknownModelError(name, allowed)

    def models(self) -> tuple[str, ...]:
        """Return the names that requests may use, the default first."""
        installed = (model.name for model in self.catalog.installed())
        final = (self.final_model,) if self.final_model else ()
        return tuple(dict.fromkeys((self.default_model, *final, *self.settings.models, *installed)))

    def task(
        self, form: TranscriptionForm, claim: Claim, translate_to: str | None = None, *, bandwidth: bool = True
    ) -> Task:
        """Return what is to be done with a recording. Raises UnknownModelError."""
        return Task(
            model=self.resolve(form.model),
            options=Options(form.language, translate_to, form.keywords),
            level=form.level or self.settings.preprocess,
            channel=form.channel,
            claim=claim,
            bandwidth=bandwidth,
        )


@dataclass(frozen=True, slots=True)
class Core:
    """A running server without its front: what the web and the command line stand on."""

    settings: Settings
    catalog: Catalog
    pool: ModelPool
    pipeline: Pipeline
    sandbox: Sandbox
    offer: Offer
    drain: Drain
    conversations: Conversations
    client_secrets: ClientSecrets
    keyring: Keyring
    limiter: Limiter
    meters: Meters
    office: Office
    """Jobs, once they are open."""
    threads: Executor
    """For what would hold the event loop for long."""
    traces: Tracer
    gpus: Gpus

    @property
    def default_model(self) -> str:
        """The model of requests that name none."""
        return self.offer.default_model

    @property
    def final_model(self) -> str | None:
        """What live utterances are heard by once more, unless their client says otherwise."""
        return self.offer.final_model

    @property
    def jobs(self) -> Jobs:
        """The jobs. Raises NotReadyError until they are open, UnsupportedError where they are not taken."""
        return self.office.jobs

    def gpu_memory(self) -> Sequence[GpuMemory]:
        """Return the memory of each GPU, where a model is on one."""
        on_gpu = any(one.lane and one.lane.info.device != "cpu" for one in self.pool.standings())
        return self.gpus.memory() if on_gpu else ()

    def resolve(self, name: str | None) -> str:
        """Return the model that a request means. Raises UnknownModelError for one that it may not use."""
        return self.offer.resolve(name)

    def models(self) -> tuple[str, ...]:
        """Return the names that requests may use, the default first."""
        return self.offer.models()

    def second_pass(self, wanted: str | None, options: Options) -> SecondPass | None:
        """Return what hears the utterances of a live stream once more: the `wanted` model, or the usual one, or none.

        Raises UnknownModelError.
        """
        name = self.final_model
        if wanted is not None:
            name = None if wanted == NO_MODEL else self.resolve(wanted)
        if name is None:
            return None
        return SecondPass(partial(self.pool.lease, name), options, self.threads, self.settings.stream.second_pass)


LoadEngine: TypeAlias = Callable[[Model, Report], Engine]
"""Fetch and load a model; blocking."""


@asynccontextmanager
async def assemble(settings: Settings, load: LoadEngine | None = None) -> AsyncIterator[Core]:
    """Run a core for the length of the block. No model is loaded yet: `pool.keep` loads one, a lease does as well.

    Each model gets a process of its own. With `load`, which takes the place of `load_engine`, models stay in this one:
    for tests, and for measuring the server alone.
    """
    catalog = Catalog(settings.models_dir)
    final = catalog.find(settings.final_model).name if settings.final_model else None
    offer = Offer(settings, catalog, catalog.find(settings.model).name, final)

    def open_lane(name: str, report: Report) -> AbstractAsyncContextManager[Lane]:
        model = catalog.find(name)
        job = job_of(model, settings)
        if load:
            return open_local_lane(partial(load, model), settings.batch, job.memory, report, listening)
        return open_isolated_lane(job, settings.batch, report, listening)

    # Small matrix products on many threads at once: each must stay on its own, or they wait for each other.
    # What jobs need done stands in a line of its own, so that no request waits behind it.
    with (
        threadpool_limits(1, user_api="blas"),
        _threads(cores(), "dsp") as threads,
        _threads(cores(), "jobs") as job_threads,
        _threads(1, "listen") as listening,
    ):
        async with (
            _open_tracer(settings.traces) as traces,
            open_sandbox(settings.decode) as sandbox,
            open_pool(open_lane, settings.pool) as pool,
        ):
            meters, drain = Meters(), Drain()
            async with (
                open_conversations(settings.stream, drain) as conversations,
                open_limiter(settings.limits) as limiter,
            ):
                pipeline = Pipeline(sandbox, pool, threads, settings.audio, meters.recordings)
                needs = Needs(
                    storage=settings.storage,
                    limits=settings.jobs,
                    pipeline=Pipeline(sandbox, pool, job_threads, settings.audio, meters.recordings, pipeline.requests),
                    plan=partial(_plan, offer),
                    outside=settings.outside,
                    webhooks=settings.webhooks,
                    fingerprint=lambda name: f"{name} {fingerprint(catalog.find(name))} {__version__}",
                    max_bytes=settings.max_upload_bytes,
                    charge=limiter.charge,
                    threads=job_threads,
                    version=__version__,
                    meters=meters.jobs,
                    traces=traces,
                )
                office = Office(needs)
                keyring = Keyring(read_keys(settings.access), settings.limits, lambda: office.place.database)
                yield Core(
                    settings=settings,
                    catalog=catalog,
                    pool=pool,
                    pipeline=pipeline,
                    office=office,
                    sandbox=sandbox,
                    offer=offer,
                    drain=drain,
                    conversations=conversations,
                    client_secrets=ClientSecrets(settings.client_secret_key.get_secret_value()),
                    keyring=keyring,
                    limiter=limiter,
                    meters=meters,
                    threads=threads,
                    traces=traces,
                    gpus=Gpus(),
                )


def _open_tracer(settings: TraceSettings) -> AbstractAsyncContextManager[Tracer]:
    if not are_wanted(settings, os.environ):
        return nullcontext(OFF)
    from nautilus.traces.otlp import open_tracer  # late: a quarter of a second, 5 MB

    return open_tracer(settings)


def _plan(offer: Offer, job: JobOfFiles) -> Task:
    """Return what is to be done with the files of a job."""
    return offer.task(read_form(job.form), Claim(Priority.JOB, job.tenant))


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
