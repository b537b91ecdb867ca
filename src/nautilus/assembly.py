"""The only file that knows concrete classes: settings in, a running core out.

    async with assemble(settings) as core: ...

Everything that runs (decoder processes, threads, models) is started and ended by this block.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from threadpoolctl import threadpool_limits

from nautilus.audio.sandbox import open_sandbox
from nautilus.engines.base import Engine
from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.hub import fetch
from nautilus.errors import ModelLoadError, UnknownModelError
from nautilus.pipeline import Pipeline
from nautilus.runtime.calibrate import cores
from nautilus.runtime.lane import Lane, Report
from nautilus.runtime.local import Loadable, open_local_lane
from nautilus.runtime.pool import ModelPool, open_pool
from nautilus.settings import Settings


@dataclass(frozen=True, slots=True)
class Core:
    """A running server without its front: what the web and the command line stand on."""

    settings: Settings
    catalog: Catalog
    pool: ModelPool
    pipeline: Pipeline
    default_model: str

    def resolve(self, name: str | None) -> str:
        """Return the model that a request means. Raises UnknownModelError for one that it may not use."""
        default = self.default_model
        if not name or name == default or name in (*self.settings.aliases, self.settings.model):
            return default
        allowed = self.models()
        if name in allowed:
            return name
        raise UnknownModelError(name, allowed)

    def models(self) -> tuple[str, ...]:
        """Return the names that requests may use, the default first."""
        installed = (model.name for model in self.catalog.installed())
        return tuple(dict.fromkeys((self.default_model, *self.settings.models, *installed)))


LoadEngine = Callable[[Model, Settings, Report], Engine]
"""Fetch and load a model; blocking."""


@asynccontextmanager
async def assemble(settings: Settings, load: LoadEngine | None = None) -> AsyncIterator[Core]:
    """Run a core for the length of the block. No model is loaded yet: `pool.keep` loads one, a lease does as well.

    `load` takes the place of `load_engine`, for tests and for measuring the server alone.
    """
    load = load or load_engine
    catalog = Catalog(settings.models_dir)
    default = catalog.find(settings.model).name

    def open_lane(name: str, report: Report) -> AbstractAsyncContextManager[Lane]:
        model = catalog.find(name)
        loadable = Loadable(model.name, _fingerprint(model), lambda tell: load(model, settings, tell))
        return open_local_lane(loadable, settings.batch, settings.cache_dir / "sizing", report)

    # Small matrix products on many threads at once: each must stay on its own, or they wait for each other.
    with threadpool_limits(1, user_api="blas"), _threads(cores(), "dsp") as threads:
        async with open_sandbox(settings.decode) as sandbox, open_pool(open_lane, settings.pool) as pool:
            pipeline = Pipeline(sandbox, pool, threads, settings.audio)
            yield Core(settings, catalog, pool, pipeline, default)


def load_engine(model: Model, settings: Settings, report: Report) -> Engine:
    """Fetch and load a model. Blocking. Raises ModelLoadError."""
    path = model.path
    if model.kind == "nemo":
        return _load_nemo(model, report, offline=settings.offline)
    if path is None:
        report(f"fetching {model.repository} from the hub")
        path = fetch(
            model.repository or model.name, Catalog(settings.models_dir).folder(model.name), offline=settings.offline
        )
    report("loading")
    if model.kind == "bundle":
        from nautilus.engines.bundle import read_bundle
        from nautilus.engines.onnx import OnnxEngine

        return OnnxEngine(read_bundle(path))
    from nautilus.engines.onnx_asr import OnnxAsrEngine

    return OnnxAsrEngine(path, model.name, model.languages)


def _load_nemo(model: Model, report: Report, *, offline: bool) -> Engine:
    if find_spec("nemo") is None:
        raise ModelLoadError(
            f"{model.name} needs the NeMo engine: pip install 'nautilus[nemo]', "
            "or turn the model into a bundle elsewhere with `nautilus export`."
        )
    if offline and model.path is None:
        raise ModelLoadError(f"{model.name} is not here and NAUTILUS_OFFLINE forbids to fetch it; name a .nemo file.")
    from nautilus.engines.nemo import NemoEngine

    report("importing NeMo")
    engine: Engine = NemoEngine(model.name, model.path)
    return engine


def _fingerprint(model: Model) -> str:
    """Return a name for what a model's speed depends on."""
    if model.kind == "bundle" and model.path is not None:
        from nautilus.engines.bundle import read_bundle

        return read_bundle(model.path).fingerprint
    return f"{model.kind}-{model.name.strip('/').replace('/', '-')}"


@contextmanager
def _threads(count: int, name: str) -> Iterator[ThreadPoolExecutor]:
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
