"""Whether somebody speaks where a model heard words: models make words of rain, engines and music, too.

Asked only of windows whose words the model itself expects to be wrong, since the detector takes its time and speech
mostly has surer ones. The thresholds are ones that lose no right word of the sets in `docs/accuracy.md`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from nautilus.audio.vad import FRAME_SECONDS, Probabilities, speech_probabilities
from nautilus.types import SAMPLE_RATE, Waveform, Word

TRUSTED: Final = 0.6
"""Mean confidence of words that nobody doubts: the model expects most of them to be right."""
SURE: Final = 0.7
"""Confidence of a word that stands for the others."""
DENSE: Final = 1.2
"""Words in a second that noise seldom makes."""
FAINT: Final = 0.3
"""Where few words have no more confidence, the detector must be sure, too."""
SPEECH: Final = 0.8
"""Probability at which the detector is sure."""
NEAR: Final = 0.3
"""Probability that it reaches somewhere, and near each of few words without a sure one, be it for 20 ms …"""
ANYWHERE: Final = 0.05
"""… and near each of other words: speech in loud noise has many that the detector hardly hears."""
REACH: Final = 0.2
"""Seconds around a word that are near."""


def is_doubtful(words: Sequence[Word]) -> bool:
    """Whether the words of a waveform may be none: by the model's own account many are wrong."""
    return bool(words) and sum(word.confidence for word in words) < TRUSTED * len(words)


def spoken(
    words: Sequence[Word], waveform: Waveform, detect: Callable[[Waveform], Probabilities] = speech_probabilities
) -> tuple[Word, ...]:
    """Return the words of a waveform, in its time, near which somebody speaks."""
    probabilities = detect(waveform)
    highest = max(word.confidence for word in words)
    few = len(words) * SAMPLE_RATE < DENSE * len(waveform) and highest < SURE
    if probabilities.max(initial=0.0) < (SPEECH if few and highest < FAINT else NEAR):
        return ()
    return tuple(word for word in words if _near(word, probabilities) >= (NEAR if few else ANYWHERE))


def _near(word: Word, probabilities: Probabilities) -> float:
    """Find the highest probability near a word; 1 where its times are only an estimate."""
    if not word.tokens:
        return 1.0
    first = max(0, int((word.start - REACH) / FRAME_SECONDS))
    return float(probabilities[first : int((word.end + REACH) / FRAME_SECONDS) + 1].max(initial=0.0))
