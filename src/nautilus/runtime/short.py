"""Very short recordings are heard with quiet around them.

A word that is cut out closely is often not heard at all: of the single digits of a speaker that training left out
(500 clips of 0.4 s on average), the embedded model hears 44 percent wrong as they are, and 12 with quiet around them.
NeMo's own `transcribe()` does so as well with what is shorter than a second.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from nautilus.types import SAMPLE_RATE, Hypothesis, Waveform

SHORT: Final = 1.0
"""Seconds; what lasts longer is heard as it is."""
QUIET: Final = 0.3
"""Seconds of silence on either side."""


def with_quiet(waveform: Waveform) -> Waveform:
    """Return a short waveform with silence around it, any other one as it is."""
    if not 0 < len(waveform) < SHORT * SAMPLE_RATE:
        return waveform
    return np.pad(waveform, round(QUIET * SAMPLE_RATE))


def without_quiet(hypothesis: Hypothesis, waveform: Waveform) -> Hypothesis:
    """Return what was heard of `with_quiet(waveform)` with the times that it has in the waveform itself."""
    seconds = len(waveform) / SAMPLE_RATE
    if not 0 < seconds < SHORT:
        return hypothesis
    words = tuple(
        replace(word, start=_inside(word.start - QUIET, seconds), end=_inside(word.end - QUIET, seconds))
        for word in hypothesis.words
    )
    return replace(hypothesis, words=words)


def surer(one: Hypothesis, other: Hypothesis) -> Hypothesis:
    """Return which of two hearings the model itself believes more; the other, where it believes both as much.

    Of digits that are live streams of their own, the embedded model hears 22 percent wrong with a look-ahead of 1.04 s
    and 38 without any; with quiet around them 7; the surer of both is wrong in 7 to 8, and loses no word of other sets.
    """
    return one if _confidence(one) > _confidence(other) else other


def _confidence(hypothesis: Hypothesis) -> float:
    words = hypothesis.words
    return sum(word.confidence for word in words) / len(words) if words else 0.0


def _inside(time: float, seconds: float) -> float:
    return min(max(time, 0.0), seconds)
