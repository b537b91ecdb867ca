"""A lane to an engine in this process, on threads of its own; what a lane does with any engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import structlog

from nautilus.engines.base import Engine, EngineInfo, Live, Report, StreamingEngine
from nautilus.runtime.answer import Answer, answer
from nautilus.runtime.batcher import Batcher, Transcribe
from nautilus.runtime.calibrate import Sizing, cores, size
from nautilus.runtime.lane import Lane
from nautilus.runtime.live import TakeSteps
from nautilus.runtime.queue import BatchLimits
from nautilus.runtime.streams import Step, StreamTable
from nautilus.types import Options, Waveform

log = structlog.get_logger(__name__)

CPU_PADDING = 0.04
GPU_PADDING = 0.25
"""On a GPU a batch of many costs little more than one of few; on a CPU padding eats what batches gain."""
PACKED_PADDING = 0.5
"""Where padding costs nothing; but short recordings wait for the long one that they are heard with."""


@asynccontextmanager
async def open_local_lane(
    load: Callable[[Report], Engine],
    limits: BatchLimits,
    memory: Path,
    report: Report,
    listening: Executor | None = None,
) -> AsyncIterator[Lane]:
    """Load an engine, and serve it for the length of the block; its sizing is remembered in the file `memory`.

    What listens for speech in live streams runs on the threads of `listening`.
    """
    loop = asyncio.get_running_loop()
    # The first thread loads the engine; one that is not reentrant never leaves it.
    threads = ThreadPoolExecutor(1, thread_name_prefix="engine")
    try:
        engine = await loop.run_in_executor(threads, load, report)
        wanted = Sizing(limits.workers, limits.max_items)
        sizing = await loop.run_in_executor(threads, size, engine, wanted, memory)
        if engine.reentrant:
            threads.shutdown(wait=False)
            threads = ThreadPoolExecutor(sizing.workers, thread_name_prefix="engine")

        async def transcribe(batch: Sequence[Waveform], options: Options) -> Answer:
            return await loop.run_in_executor(threads, answer, engine, batch, options)

        table = StreamTable(cast("StreamingEngine[Any]", engine))

        async def take_steps(steps: Sequence[Step], sounds: Sequence[Waveform]) -> Sequence[Live | None]:
            return await loop.run_in_executor(threads, table.step, steps, sounds)

        async with serving(transcribe, take_steps, engine.info, sizing, limits, listening) as lane:
            yield lane
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def serving(
    transcribe: Transcribe,
    take_steps: TakeSteps,
    info: EngineInfo,
    sizing: Sizing,
    limits: BatchLimits,
    listening: Executor | None = None,
) -> AsyncIterator[Lane]:
    """Put a queue before an engine, wherever that is, for the length of the block."""
    batcher = Batcher(info, transcribe, settled(limits, sizing, info), take_steps, listening, sizing)
    places = batcher.state().places
    streams = {look_ahead: places.capacity(look_ahead) for look_ahead in info.waits}
    sized = {"workers": sizing.workers, "max_items": sizing.max_items, "streams": streams}
    log.info("model ready", model=info.name, cores=cores(), **sized)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(batcher.serve(), name=f"serve {info.name}")
        try:
            yield batcher
        finally:
            task.cancel()


def settled(limits: BatchLimits, sizing: Sizing, info: EngineInfo) -> BatchLimits:
    """Return the limits with what was left open filled in."""
    usual = PACKED_PADDING if info.packed else CPU_PADDING if info.device == "cpu" else GPU_PADDING
    padding = limits.max_padding if limits.max_padding >= 0 else usual
    return replace(limits, workers=sizing.workers, max_items=sizing.max_items, max_padding=padding)
