"""Whether somebody speaks where a model heard words: models make words of rain, engines and music, too.

Asked only of windows with few words and without a single one that the model is sure of, since the detector takes its
time and speech nearly always has one. The thresholds are the ones that lose no right word of the sets in
`docs/accuracy.md`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from nautilus.audio.vad import FRAME_SECONDS, Probabilities, speech_probabilities
from nautilus.types import Waveform, Word

SURE: Final = 0.7
"""Confidence of a word that nobody doubts."""
DENSE: Final = 1.2
"""Words in a second that nobody doubts: noise makes few of them."""
FAINT: Final = 0.3
"""Where no word has more confidence, the detector must be sure, too."""
SPEECH: Final = 0.8
"""Probability at which the detector is sure."""
NEAR: Final = 0.3
"""Probability that it reaches near every word, be it for 20 ms."""
REACH: Final = 0.2
"""Seconds around a word that are near."""


def is_doubtful(words: Sequence[Word], seconds: float) -> bool:
    """Whether the words of a waveform that lasts so long may be none: they are few, and nothing in them is sure."""
    return 0 < len(words) < DENSE * seconds and max(word.confidence for word in words) < SURE


def spoken(
    words: Sequence[Word], waveform: Waveform, detect: Callable[[Waveform], Probabilities] = speech_probabilities
) -> tuple[Word, ...]:
    """Return the words of a waveform, in its time, near which somebody speaks."""
    probabilities = detect(waveform)
    needed = SPEECH if max(word.confidence for word in words) < FAINT else NEAR
    if probabilities.max(initial=0.0) < needed:
        return ()
    return tuple(word for word in words if _near(word, probabilities) >= NEAR)


def _near(word: Word, probabilities: Probabilities) -> float:
    """Find the highest probability near a word; 1 where its times are only an estimate."""
    if not word.tokens:
        return 1.0
    first = max(0, int((word.start - REACH) / FRAME_SECONDS))
    return float(probabilities[first : int((word.end + REACH) / FRAME_SECONDS) + 1].max(initial=0.0))
