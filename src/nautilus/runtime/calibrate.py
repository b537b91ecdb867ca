"""How many workers, and how large a batch: measured on this machine at load, remembered for the next start.

On a CPU several single-thread workers beat one call spread over the cores, and batches help little; on a GPU one
worker with large batches is best. The measuring is also the warm-up.
"""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import structlog

from nautilus.engines.base import Engine
from nautilus.types import SAMPLE_RATE, Options, Waveform

log = structlog.get_logger(__name__)

CLIP_SECONDS = 5
CPU_SIZES = (1, 2, 4, 8)
GPU_SIZES = (8, 16, 32, 64)
ROUNDS = 3
BUDGET = 1.0
"""Seconds to spend on measuring; a model that needs longer gets the size found so far."""
AS_FAST = 1.03
"""Seconds per clip, compared with the fastest size, that count as no slower."""


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


def _fastest(engine: Engine, workers: int, sizes: tuple[int, ...]) -> int:
    """Return the largest batch that is about as fast as any, with every worker busy.

    The model alone may not care; the server around it does less for one batch than for many.

    Sizes take turns, and the best turn of each counts, so that another program's moment does not decide.
    """
    deadline = time.perf_counter() + BUDGET
    least: dict[int, float] = {}
    with ThreadPoolExecutor(workers) as threads:
        for items in sizes * ROUNDS:
            spent = _spent(engine, workers, items, threads) / items
            least[items] = min(spent, least.get(items, spent))
            if time.perf_counter() > deadline:
                break
    log.debug("calibration", model=engine.info.name, seconds_per_clip=least)
    return max(items for items in least if least[items] <= min(least.values()) * AS_FAST)


def _spent(engine: Engine, workers: int, items: int, threads: ThreadPoolExecutor) -> float:
    """Return the seconds that one batch takes while every worker has one."""
    batch = [_clip()] * items
    started = time.perf_counter()
    if engine.reentrant:
        list(threads.map(lambda _: engine.transcribe(batch, Options()), range(workers)))
    else:  # never leaves the thread that it was loaded on
        engine.transcribe(batch, Options())
    return time.perf_counter() - started


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
