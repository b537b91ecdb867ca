"""A lane in this process: loads an engine on its own threads, sizes its batches, warms it up, serves it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from nautilus.engines.base import Engine
from nautilus.runtime.batcher import Batcher, BatchLimits
from nautilus.runtime.calibrate import Sizing, cores, size
from nautilus.runtime.lane import Lane, Report

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Loadable:
    """A model that can be loaded here."""

    name: str
    fingerprint: str
    """Changes when its weights do; the key of what is remembered of it."""
    load: Callable[[Report], Engine]
    """Blocking: fetch and load it."""


CPU_PADDING = 0.04
GPU_PADDING = 0.25
"""On a GPU a batch of many costs little more than one of few; on a CPU padding eats what batches gain."""


@asynccontextmanager
async def open_local_lane(loadable: Loadable, limits: BatchLimits, cache: Path, report: Report) -> AsyncIterator[Lane]:
    """Load a model, and serve it for the length of the block."""
    loop = asyncio.get_running_loop()
    # The first thread loads the engine; one that is not reentrant never leaves it.
    threads = ThreadPoolExecutor(1, thread_name_prefix=f"engine {loadable.name}")
    try:
        engine = await loop.run_in_executor(threads, loadable.load, report)
        report("sizing batches")
        wanted = Sizing(limits.workers, limits.max_items)
        sizing = await loop.run_in_executor(threads, size, engine, wanted, cache / f"{loadable.fingerprint}.json")
        if engine.reentrant:
            threads.shutdown(wait=False)
            threads = ThreadPoolExecutor(sizing.workers, thread_name_prefix=f"engine {loadable.name}")
        log.info("model ready", model=loadable.name, workers=sizing.workers, max_items=sizing.max_items, cores=cores())
        batcher = Batcher(engine, threads, _settled(limits, sizing, engine.info.device))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(batcher.serve(), name=f"serve {loadable.name}")
            try:
                yield batcher
            finally:
                serving.cancel()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _settled(limits: BatchLimits, sizing: Sizing, device: str) -> BatchLimits:
    """Return the limits with what was left open filled in."""
    usual = CPU_PADDING if device == "cpu" else GPU_PADDING
    padding = limits.max_padding if limits.max_padding >= 0 else usual
    return replace(limits, workers=sizing.workers, max_items=sizing.max_items, max_padding=padding)
