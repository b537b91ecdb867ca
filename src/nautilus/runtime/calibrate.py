"""How many workers, how large a batch, what a live stream takes: measured at load, remembered for the next start.

On a CPU several single-thread workers beat one call spread over the cores, and batches help little; on a GPU one
worker with large batches is best. The measuring is also the warm-up.
"""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, cast

import numpy as np
import structlog

from nautilus.engines.base import Engine, StreamingEngine
from nautilus.types import SAMPLE_RATE, Options, Waveform

log = structlog.get_logger(__name__)

CLIP_SECONDS = 5
CPU_SIZES = (1, 2, 4, 8)
GPU_SIZES = (8, 16, 32, 64)
ROUNDS = 3
BUDGET = 1.0
"""Seconds to spend on measuring; a model that needs longer gets the size found so far."""
AS_FAST = 1.06
"""Seconds per clip, compared with the fastest size, that count as no slower: on a busy machine, that is chance."""
BETWEEN = 0.001
"""Seconds of a worker that pass from one batch to the next, until the server has taken the answer and sent more."""

PIECE_SECONDS = 0.1
"""Of sound that a live client sends at once."""
TOGETHER = 4
"""Streams in a measured step."""
MANY = 32
"""Streams in a step of a small model: more are no faster, and those that come next wait longer."""
WORTH = 0.95
"""Time for each stream, of that with half as many in a step, up to which more go together. A large model's weights are
read once for a few streams; with more, its arithmetic counts, and everybody only waits longer for the step to end."""
AGAIN, SOONER = 1.9, 1.2
"""How often a second is heard with a model that is no streaming one: so often, and more the sooner partials come."""
STREAM_ROUNDS = 2
STEP_BUDGET = 0.5
"""Seconds that a measured chunk of all streams may take; for a slow model there are fewer of them."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How a lane runs its engine; 0 and nothing ask for measuring."""

    workers: int
    max_items: int
    shares: tuple[float, ...] = ()
    """Of one worker's time that a live stream takes, for each of `EngineInfo.waits`."""
    step_streams: int = 0
    """Live streams of one look-ahead whose chunks go into one step."""


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
    known = _recall(memory, workers, len(engine.info.waits)) or Sizing(workers, 0)
    items = wanted.max_items or known.max_items or _fastest(engine, workers, CPU_SIZES if on_cpu else GPU_SIZES)
    shares = wanted.shares or known.shares or stream_shares(engine)
    streams = wanted.step_streams or known.step_streams or step_streams(engine, workers)
    learned = Sizing(workers, known.max_items if wanted.max_items else items, shares, streams)
    if learned != known:
        _remember(memory, learned)
    return Sizing(workers, items, shares, streams)


def _fastest(engine: Engine, workers: int, sizes: tuple[int, ...]) -> int:
    """Return a size of batch that is about as fast as any, with every worker busy.

    Where recordings of any lengths go together, it is the largest: the server around the model does less for one
    batch than for many. Where they are padded, it is the smallest, as those that come are not as alike as these.

    Sizes take turns, and the best turn of each counts, so that another program's moment does not decide.
    """
    least: dict[int, float] = {}
    with ThreadPoolExecutor(workers) as threads:
        _spent(engine, workers, min(sizes), threads)  # what each thread needs for its first one
        deadline = time.perf_counter() + BUDGET
        for items in sizes * ROUNDS:
            spent = (BETWEEN + _spent(engine, workers, items, threads)) / items
            least[items] = min(spent, least.get(items, spent))
            if time.perf_counter() > deadline:
                break
    log.debug("calibration", model=engine.info.name, seconds_per_clip=least)
    as_fast = [items for items in least if least[items] <= min(least.values()) * AS_FAST]
    return max(as_fast) if engine.info.packed else min(as_fast)


def _spent(engine: Engine, workers: int, items: int, threads: ThreadPoolExecutor) -> float:
    """Return the seconds that one batch takes a worker while every worker has one."""
    batch, clock = [_clip()] * items, _clock(engine)

    def work(_: int) -> float:
        started = clock()
        engine.transcribe(batch, Options())
        return clock() - started

    if not engine.reentrant:  # never leaves the thread that it was loaded on
        return work(0)
    spent = list(threads.map(work, range(workers)))
    return sum(spent) / len(spent)


def stream_shares(engine: Engine) -> tuple[float, ...]:
    """Return which share of one worker's time a live stream takes, for each of `EngineInfo.waits`.

    Of a cache-aware model, the largest and the smallest look-ahead are measured; what a chunk takes grows evenly with
    its length. Any other model hears each second of a speaker again and again (docs/live.md).
    """
    looks = engine.info.look_aheads
    if not looks:
        once = _second_seconds(engine)
        return tuple(round((AGAIN + SOONER / wait) * once, 6) for wait in engine.info.waits)
    streams = cast("StreamingEngine[Any]", engine)
    chunks = [look_ahead + engine.info.frame_seconds for look_ahead in looks]
    one = _chunk_seconds(streams, max(looks), 1)  # which also loads what streams need
    together = max(1, min(TOGETHER, int(STEP_BUDGET / one)))
    ends = sorted({min(chunks), max(chunks)})
    spent = [_chunk_seconds(streams, looks[chunks.index(end)], together) for end in ends]
    shares = np.interp(chunks, ends, spent) / chunks / together
    log.debug("calibration of streams", model=engine.info.name, together=together, shares=shares)
    return tuple(round(float(share), 6) for share in shares)


def step_streams(engine: Engine, workers: int) -> int:
    """Return how many live streams go into a step: few where with more none is faster.

    Measured with the smallest look-ahead, which takes the most steps, and with every worker busy, as they share caches
    and memory. Both numbers take turns, and the best turn of each counts; a slow model has but one.
    """
    if not engine.info.look_aheads:
        return MANY  # takes no steps
    streams, look_ahead = cast("StreamingEngine[Any]", engine), min(engine.info.look_aheads)
    deadline = time.perf_counter() + STEP_BUDGET
    few = more = inf
    for _ in range(ROUNDS):
        few = min(few, _stepping(streams, look_ahead, TOGETHER, workers))
        if 2 * TOGETHER * few > STEP_BUDGET:
            return TOGETHER
        more = min(more, _stepping(streams, look_ahead, 2 * TOGETHER, workers))
        if time.perf_counter() > deadline:
            break
    log.debug("calibration of steps", model=engine.info.name, seconds_per_stream={TOGETHER: few, 2 * TOGETHER: more})
    return MANY if more < WORTH * few else TOGETHER


def _stepping(engine: StreamingEngine[Any], look_ahead: float, together: int, workers: int) -> float:
    """Return the seconds of a worker that each of so many streams takes for a chunk."""
    if not engine.reentrant:  # never leaves the thread that it was loaded on
        return _chunk_seconds(engine, look_ahead, together) / together
    with ThreadPoolExecutor(workers) as threads:
        spent = list(threads.map(lambda _: _chunk_seconds(engine, look_ahead, together), range(workers)))
    return sum(spent) / len(spent) / together


def _second_seconds(engine: Engine) -> float:
    """Return the seconds that one second of sound takes a worker."""
    clock = _clock(engine)
    started = clock()
    engine.transcribe([_clip()], Options())
    return max(clock() - started, 1e-6) / CLIP_SECONDS


def _clock(engine: Engine) -> Callable[[], float]:
    """Return what to measure by: a worker that is one thread by its own processor time, as others take only time."""
    return time.thread_time if engine.reentrant and engine.info.device == "cpu" else time.perf_counter


def _chunk_seconds(engine: StreamingEngine[Any], look_ahead: float, together: int) -> float:
    """Return the seconds that so many streams take a worker for a chunk."""
    chunk = look_ahead + engine.info.frame_seconds
    pieces = np.array_split(_clip()[: round(chunk * SAMPLE_RATE)], max(1, round(chunk / PIECE_SECONDS)))
    clock = _clock(engine)
    states = [engine.open(look_ahead) for _ in range(together)]
    first = _clip()[: round(PIECE_SECONDS * SAMPLE_RATE)]
    engine.step([(state, first) for state in states])  # what a chunk needs of the sound before and behind it
    spent: list[float] = []
    while len(spent) < STREAM_ROUNDS and sum(spent) < STEP_BUDGET:
        started = clock()
        for piece in pieces:
            engine.step([(state, piece) for state in states])
        spent.append(clock() - started)
    return max(min(spent), 1e-6)


def _clip() -> Waveform:
    noise = np.random.default_rng(0).standard_normal(CLIP_SECONDS * SAMPLE_RATE)
    return (0.01 * noise).astype(np.float32)


def _recall(memory: Path, workers: int, waits: int) -> Sizing | None:
    """Return what was measured with so many workers; None where anything is missing, as in an older version's file."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        sizing = Sizing(known["workers"], known["max_items"], tuple(known.get("shares", ())), known["step_streams"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return sizing if sizing.workers == workers and len(sizing.shares) == waits else None


def _remember(memory: Path, sizing: Sizing) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps(asdict(sizing)), encoding="utf-8")
    except OSError as error:
        log.warning("the sizing could not be remembered", file=str(memory), error=str(error))
