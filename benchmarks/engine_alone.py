"""How fast the engine is without a server: the ceiling that the server is measured against.

Same model, same cores, same features, same sizing. The clips are decoded beforehand, sorted by length and cut into
batches, and every worker thread takes the next batch as soon as it is free: nothing could feed the engine better.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from threadpoolctl import threadpool_limits

from nautilus.audio.decode import Decoder
from nautilus.engines.base import Engine
from nautilus.runtime.calibrate import Sizing
from nautilus.types import SAMPLE_RATE, Options, Waveform


def decode(files: Sequence[Path]) -> list[Waveform]:
    """Return the waveforms of short files."""
    waveforms = []
    for file in files:
        with file.open("rb") as opened:
            decoder = Decoder(opened)
            block = decoder.read(60.0)
            decoder.close()
        if block is not None:
            waveforms.append(block)
    return waveforms


def engine_rate(engine: Engine, waveforms: Sequence[Waveform], sizing: Sizing, seconds: float) -> float:
    """Return seconds of audio per second over about `seconds` of wall clock; no worker ever waits for another."""
    ranked = sorted(waveforms, key=len)
    batches = [ranked[first : first + sizing.max_items] for first in range(0, len(ranked), sizing.max_items)]
    turns = count()  # `next` is atomic
    started = time.perf_counter()

    def work(_: int) -> int:
        heard = 0
        while time.perf_counter() - started < seconds:
            batch = batches[next(turns) % len(batches)]
            engine.transcribe(batch, Options())
            heard += sum(map(len, batch))
        return heard

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(sizing.workers) as threads:
        heard = sum(threads.map(work, range(sizing.workers)))
    return heard / SAMPLE_RATE / (time.perf_counter() - started)


def idle_latency(engine: Engine, waveform: Waveform, repeats: int = 30) -> float:
    """Return the median seconds that one clip takes when nothing else runs."""
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        engine.transcribe([waveform], Options())
        spent.append(time.perf_counter() - started)
    return sorted(spent)[repeats // 2]
