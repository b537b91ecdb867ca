"""Whether somebody speaks where a model heard words: models make words of rain, engines and music, too.

Two witnesses are heard: the model, by the confidence of its words, and the voice activity detector, which is asked only
where the model alone does not settle it, since that takes its time. Neither is right by itself: a dog that barks is a
word that the model is sure of, a sea wave is a voice to the detector. As they err for different reasons, their log-odds
are added (naive Bayes). What is made of noise is also rare: who speaks says some words a second, so the logarithm of
how many is added, too. The thresholds are ones that lose next to no right word of the sets in `docs/accuracy.md`.
"""

from collections.abc import Callable, Sequence
from math import log
from typing import Final

from nautilus.audio.vad import FRAME_SECONDS, Probabilities, speech_probabilities
from nautilus.types import SAMPLE_RATE, Waveform, Word

SURE: Final = 1.2
"""Confidences of the two surest words and the logarithm of the words in a second, together, from which on nobody is
asked: hardly any noise has it."""
BRIEF: Final = 1.0
"""Seconds; what is shorter is mostly one word, somebody's answer or command …"""
TRUSTED: Final = 0.6
"""… and is not doubted with this confidence."""
CERTAIN: Final = 0.98
"""Confidence that no word of noise has; models that cannot tell how sure they are say 1."""
ENOUGH: Final = 0.0
"""Log-odds of both witnesses and the logarithm of the words in a second, together, from which on somebody spoke."""
RARELY: Final = 0.2
"""Words in a second; fewer tell no more: of a long recording that is hard to hear, a model hears a word or two."""
ANYWHERE: Final = 0.05
"""Probability that the detector must reach near a word: speech in loud noise has many that it hardly hears."""
REACH: Final = 0.2
"""Seconds around a word that are near."""
_SUREST: Final = 0.999
"""No witness is surer."""


def is_doubtful(words: Sequence[Word], seconds: float) -> bool:
    """Whether the words of so many seconds may be none, as far as the model can tell."""
    if not words or seconds <= 0.0:
        return False
    surest = sorted((word.confidence for word in words), reverse=True)[:2]
    if surest[0] >= (TRUSTED if seconds < BRIEF else CERTAIN):
        return False
    return sum(surest) + log(len(words) / seconds) < SURE


def spoken(
    words: Sequence[Word], waveform: Waveform, detect: Callable[[Waveform], Probabilities] = speech_probabilities
) -> tuple[Word, ...]:
    """Return the words of a waveform, in its time, near which somebody speaks."""
    if not len(waveform):
        return ()
    probabilities = detect(waveform)
    often = log(max(RARELY, len(words) * SAMPLE_RATE / len(waveform)))
    surest = max(word.confidence for word in words)
    if _log_odds(float(probabilities.max())) + _log_odds(surest) + often < ENOUGH:
        return ()
    return tuple(word for word in words if _near(word, probabilities) >= ANYWHERE)


def _near(word: Word, probabilities: Probabilities) -> float:
    """Find the highest probability near a word; 1 where its times are only an estimate."""
    if not word.tokens:
        return 1.0
    first = max(0, int((word.start - REACH) / FRAME_SECONDS))
    return float(probabilities[first : int((word.end + REACH) / FRAME_SECONDS) + 1].max(initial=0.0))


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1 - _SUREST), _SUREST)
    return log(inside / (1 - inside))
