"""What an engine answers for a batch, and when it was at it."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nautilus.engines.base import Engine
from nautilus.types import Hypothesis, Options, Waveform


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard in a batch, in order. Times are `time.monotonic`, in whichever process the engine is."""

    hypotheses: Collection[Hypothesis]
    since: float
    until: float


def answer(engine: Engine, batch: Sequence[Waveform], options: Options) -> Answer:
    """Have an engine hear a batch; blocking."""
    since = time.monotonic()
    heard = engine.transcribe(batch, options)
    return Answer(heard, since, time.monotonic())
