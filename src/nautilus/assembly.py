"""The only file that knows concrete classes: settings in, a running core out.

    async with assemble(settings) as core: ...

Everything that runs (decoder processes, threads, models) is started and ended by this block.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from threadpoolctl import threadpool_limits

from nautilus.access.secrets import ClientSecrets
from nautilus.audio.sandbox import Sandbox, open_sandbox
from nautilus.engines.base import Engine, Report
from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.load import fingerprint, load_engine
from nautilus.errors import UnknownModelError
from nautilus.observe import Meters
from nautilus.pipeline import Pipeline
from nautilus.runtime.calibrate import Sizing, cores
from nautilus.runtime.isolated import open_isolated_lane
from nautilus.runtime.lane import Lane
from nautilus.runtime.local import open_local_lane
from nautilus.runtime.model_process import Job
from nautilus.runtime.pool import ModelPool, open_pool
from nautilus.settings import Settings
from nautilus.stream.conversations import Conversations, open_conversations
from nautilus.stream.drain import Drain
from nautilus.stream.second import SecondPass
from nautilus.types import Options

NO_MODEL: Final = "none"
"""What a client says to have no second pass."""


@dataclass(frozen=True, slots=True)
class Core:
    """A running server without its front: what the web and the command line stand on."""

    settings: Settings
    catalog: Catalog
    pool: ModelPool
    pipeline: Pipeline
    sandbox: Sandbox
    default_model: str
    drain: Drain
    conversations: Conversations
    client_secrets: ClientSecrets
    meters: Meters
    threads: Executor
    """For what would hold the event loop for long."""
    final_model: str | None = None
    """What live utterances are heard by once more, unless their client says otherwise."""

    def resolve(self, name: str | None) -> str:
        """Return the model that a request means. Raises UnknownModelError for one that it may not use."""
        default = self.default_model
        if not name or name == default or name in (*self.settings.aliases, self.settings.model):
            return default
        allowed = self.models()
        if name in allowed:
            return name
        raise UnknownModelError(name, allowed)

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

    def models(self) -> tuple[str, ...]:
        """Return the names that requests may use, the default first."""
        installed = (model.name for model in self.catalog.installed())
        final = (self.final_model,) if self.final_model else ()
        return tuple(dict.fromkeys((self.default_model, *final, *self.settings.models, *installed)))


LoadEngine: TypeAlias = Callable[[Model, Report], Engine]
"""Fetch and load a model; blocking."""


@asynccontextmanager
async def assemble(settings: Settings, load: LoadEngine | None = None) -> AsyncIterator[Core]:
    """Run a core for the length of the block. No model is loaded yet: `pool.keep` loads one, a lease does as well.

    Each model gets a process of its own. With `load`, which takes the place of `load_engine`, models stay in this one:
    for tests, and for measuring the server alone.
    """
    catalog = Catalog(settings.models_dir)
    default = catalog.find(settings.model).name
    final = catalog.find(settings.final_model).name if settings.final_model else None

    def open_lane(name: str, report: Report) -> AbstractAsyncContextManager[Lane]:
        model = catalog.find(name)
        memory = settings.cache_dir / "sizing" / f"{fingerprint(model)}.json"
        if load:
            return open_local_lane(partial(load, model), settings.batch, memory, report, listening)
        return open_isolated_lane(_job(model, settings, memory), settings.batch, report, listening)

    # Small matrix products on many threads at once: each must stay on its own, or they wait for each other.
    with threadpool_limits(1, user_api="blas"), _threads(cores(), "dsp") as threads, _threads(1, "listen") as listening:
        async with open_sandbox(settings.decode) as sandbox, open_pool(open_lane, settings.pool) as pool:
            meters, drain = Meters(), Drain()
            async with open_conversations(settings.stream, drain) as conversations:
                yield Core(
                    settings=settings,
                    catalog=catalog,
                    pool=pool,
                    pipeline=Pipeline(sandbox, pool, threads, settings.audio, meters.recordings),
                    sandbox=sandbox,
                    default_model=default,
                    drain=drain,
                    conversations=conversations,
                    client_secrets=ClientSecrets(settings.client_secret_key.get_secret_value()),
                    meters=meters,
                    threads=threads,
                    final_model=final,
                )


def _job(model: Model, settings: Settings, memory: Path) -> Job:
    return Job(
        load=partial(load_engine, model, models_dir=settings.models_dir, offline=settings.offline),
        wanted=Sizing(settings.batch.workers, settings.batch.max_items),
        memory=memory,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
