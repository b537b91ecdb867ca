"""How many workers, and how large a batch: measured on this machine at load, remembered for the next start.

On a CPU several single-thread workers beat one call spread over the cores, and batches help little; on a GPU one
worker with large batches is best. The measuring is also the warm-up.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import structlog

from nautilus.engines.base import Engine
from nautilus.types import SAMPLE_RATE, Options, Waveform

log = structlog.get_logger(__name__)

CLIP_SECONDS = 5
CPU_SIZES = (1, 2, 4, 8, 16)
GPU_SIZES = (8, 16, 32, 64)
BUDGET = 1.0
"""Seconds to spend on measuring; a model that needs longer gets the size found so far."""
WORTH = 1.02
"""A larger batch must be this much faster, since it makes everyone in it wait."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How a lane runs its engine; 0 asks for measuring."""

    workers: int
    max_items: int


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def size(engine: Engine, wanted: Sizing, memory: Path) -> Sizing:
    """Warm the engine up and settle its sizing: as `wanted`, else as remembered in the file `memory`, else measured."""
    engine.transcribe([_clip()], Options())
    on_cpu = engine.info.device == "cpu"
    workers = wanted.workers or (cores() if engine.reentrant and on_cpu else 1)
    if not engine.reentrant:
        workers = 1
    if wanted.max_items:
        return Sizing(workers, wanted.max_items)
    remembered = _recall(memory)
    if remembered and remembered.workers == workers:
        return remembered
    sizing = Sizing(workers, _fastest(engine, workers, CPU_SIZES if on_cpu else GPU_SIZES))
    _remember(memory, sizing)
    return sizing


def _fastest(engine: Engine, workers: int, sizes: Sequence[int]) -> int:
    deadline = time.perf_counter() + BUDGET
    best, best_rate = sizes[0], 0.0
    with ThreadPoolExecutor(workers) as threads:
        for items in sizes:
            rate = _rate(engine, workers, items, threads)
            log.debug("calibration", model=engine.info.name, items=items, rate=round(rate, 1))
            if rate > best_rate * WORTH:
                best, best_rate = items, rate
            if time.perf_counter() > deadline:
                break
    return best


def _rate(engine: Engine, workers: int, items: int, threads: ThreadPoolExecutor) -> float:
    """Return seconds of audio per second with every worker busy: the better of two rounds."""
    batch = [_clip()] * items
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        if engine.reentrant:
            list(threads.map(lambda _: engine.transcribe(batch, Options()), range(workers)))
        else:
            engine.transcribe(batch, Options())
        spent.append(time.perf_counter() - started)
    return CLIP_SECONDS * items * workers / min(spent)


def _clip() -> Waveform:
    noise = np.random.default_rng(0).standard_normal(CLIP_SECONDS * SAMPLE_RATE)
    return (0.01 * noise).astype(np.float32)


def _recall(memory: Path) -> Sizing | None:
    try:
        return Sizing(**json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _remember(memory: Path, sizing: Sizing) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(asdict(sizing)), encoding="utf-8")
    except OSError as error:
        log.warning("the sizing could not be remembered", file=str(memory), error=str(error))
