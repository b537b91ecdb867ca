"""Which models are in memory, who uses them, and which may go.

One task hosts one model from load to release, so its batcher, threads and memory have one owner and one end.
The only lock covers admission and release: memory is given up before it is asked for again.

    absent ──lease──▶ loading ──ready──▶ loaded (users > 0 or idle) ──evict or idle too long──▶ absent
                         └──failed──▶ absent (the next lease tries again)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from nautilus.errors import EngineError, ModelLoadError, NautilusError, NotReadyError, OverloadedError
from nautilus.observe import Count
from nautilus.runtime.lane import Lane, OpenLane

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many models stay, and for how long unused."""

    max_models: int = 2
    """Models in memory at once; the one unused for longest makes room."""
    idle_ttl: float = 900.0
    """Seconds without a user after which a model is freed; the default model always stays."""
    sweep_every: float = 15.0
    """Seconds between looks for idle models."""
    max_waiting: int = 64
    """Requests that wait for one model to load; more are told to come back."""


@dataclass(slots=True)
class Resident:
    """A model that is loading or loaded."""

    ready: asyncio.Future[Lane]
    idle_since: float
    progress: str = "waiting to load"
    load_seconds: float = 0.0
    users: int = 0
    keep: bool = False
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self, progress: str) -> None:
        """Note how far the loading is. May be called from any thread."""
        self.progress = progress


@dataclass(frozen=True, slots=True)
class Standing:
    """A model in memory, or on its way there."""

    name: str
    lane: Lane | None
    """None while it is loading."""
    load_seconds: float
    """Until it was ready; 0 while it is loading."""


class ModelPool:
    """Lends lanes. Made by `open_pool`, which owns its tasks."""

    def __init__(
        self, open_lane: OpenLane, limits: PoolLimits, tasks: asyncio.TaskGroup, now: Callable[[], float]
    ) -> None:
        self._open_lane = open_lane
        self._limits = limits
        self._tasks = tasks
        self._now = now
        self._residents: dict[str, Resident] = {}
        self._admitting = asyncio.Lock()
        self.failures = Count()
        """Loads that failed."""

    def __repr__(self) -> str:
        return f"<ModelPool {', '.join(f'{n} x{r.users}' for n, r in self._residents.items()) or 'empty'}>"

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[Lane]:
        """Lend the named model, loading it first if need be. It stays while anyone holds a lease."""
        resident = self._residents.get(name) or await self._admit(name)
        if not resident.ready.done() and resident.users >= self._limits.max_waiting:
            raise NotReadyError(name, resident.progress)
        resident.users += 1
        try:
            yield await asyncio.shield(resident.ready)
        finally:
            resident.users -= 1
            resident.idle_since = self._now()

    async def keep(self, name: str) -> Lane:
        """Load the named model and never free it for being idle."""
        async with self.lease(name) as lane:
            self._residents[name].keep = True
            return lane

    def loaded(self) -> list[str]:
        """Return the names of the models that can answer at once."""
        return [n for n, r in self._residents.items() if r.ready.done() and not r.ready.cancelled()]

    def standings(self) -> list[Standing]:
        """Return all models that are loading or loaded."""
        return [
            Standing(name, _lane(resident.ready), resident.load_seconds) for name, resident in self._residents.items()
        ]

    def progress(self, name: str) -> str:
        """Return how far the loading of a model is."""
        return self._residents[name].progress if name in self._residents else "not loaded"

    async def sweep(self) -> None:
        """Release the models that nobody has used for a while."""
        deadline = self._now() - self._limits.idle_ttl
        async with self._admitting:
            while (idle := self._longest_idle()) and self._residents[idle].idle_since <= deadline:
                await self._release(idle)

    def _longest_idle(self) -> str | None:
        idle = [(r.idle_since, name) for name, r in self._residents.items() if not r.users and not r.keep]
        return min(idle)[1] if idle else None

    async def _admit(self, name: str) -> Resident:
        async with self._admitting:
            if name in self._residents:
                return self._residents[name]
            while len(self._residents) >= self._limits.max_models:
                idle = self._longest_idle()
                if idle is None:
                    raise OverloadedError(retry_after=self._limits.sweep_every)
                await self._release(idle)
            resident = Resident(asyncio.get_running_loop().create_future(), self._now())
            self._residents[name] = resident
            self._tasks.create_task(self._host(name, resident), name=f"model {name}")
            return resident

    async def _host(self, name: str, resident: Resident) -> None:
        started = self._now()
        try:
            async with self._open_lane(name, resident.report) as lane:
                resident.report("ready")
                resident.load_seconds = self._now() - started
                resident.ready.set_result(lane)
                await resident.leave.wait()
        except NautilusError as error:
            self.failures.add()
            log.error("model failed", model=name, error=str(error))  # noqa: TRY400 - foreseen: the message says it all
            _tell(resident.ready, error)
        except Exception as error:
            # A model may fail in any way; whoever waits for it is told, and the server goes on.
            self.failures.add()
            log.exception("model failed", model=name)
            _tell(resident.ready, _load_error(name, error))
        finally:
            _tell(resident.ready, EngineError("The server is stopping."))
            if self._residents.get(name) is resident:
                del self._residents[name]
            resident.gone.set()

    async def _release(self, name: str) -> None:
        resident = self._residents.pop(name)
        resident.leave.set()
        await resident.gone.wait()
        log.info("model freed", model=name)


@asynccontextmanager
async def open_pool(
    open_lane: OpenLane, limits: PoolLimits, now: Callable[[], float] = time.monotonic
) -> AsyncIterator[ModelPool]:
    """Run a pool for the length of the block; every model is freed before it ends."""
    async with asyncio.TaskGroup() as tasks:
        pool = ModelPool(open_lane, limits, tasks, now)
        sweeper = tasks.create_task(_sweep_forever(pool, limits.sweep_every), name="model sweeper")
        try:
            yield pool
        finally:
            sweeper.cancel()
            for resident in pool._residents.values():  # noqa: SLF001 - same file, same owner
                resident.leave.set()


def _load_error(name: str, error: Exception) -> ModelLoadError:
    wrapped = ModelLoadError(f"The model '{name}' could not be loaded: {error}")
    wrapped.__cause__ = error
    return wrapped


def _lane(ready: asyncio.Future[Lane]) -> Lane | None:
    loaded = ready.done() and not ready.cancelled() and not ready.exception()
    return ready.result() if loaded else None


def _tell(ready: asyncio.Future[Lane], error: Exception) -> None:
    if not ready.done():
        ready.set_exception(error)
        ready.exception()  # seen, even if every waiter has left


async def _sweep_forever(pool: ModelPool, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        await pool.sweep()
