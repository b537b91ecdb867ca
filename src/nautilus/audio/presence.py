"""Whether somebody speaks where a model heard words: models make words of rain, engines and music, too.

Witnesses are heard until it is settled, those that take their time last: the model, by the confidence of its words; the
voice activity detector; Silero. None is right by itself: a dog that barks is a word that the model is sure of, a sea
wave is a voice to the detector, a horn is one to Silero. As they err for different reasons, their log-odds are added
(naive Bayes). What is made of noise is also rare: who speaks says some words a second, so the logarithm of how many is
added, too. The thresholds are ones that lose next to no right word of the sets in `docs/accuracy.md`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Final

import numpy as np

from nautilus.audio.silero import Matrix, listen
from nautilus.audio.vad import FRAME_SECONDS, Probabilities, speech_probabilities
from nautilus.types import SAMPLE_RATE, Waveform, Word

SURE: Final = 1.05
"""Confidence of the surest word and half the words in a second that are probably right, together, from which on nobody
is asked: hardly any noise has it."""
BRIEF: Final = 1.0
"""Seconds; what is shorter is mostly one word, somebody's answer or command …"""
TRUSTED: Final = 0.6
"""… and is not doubted with this confidence."""
CERTAIN: Final = 0.98
"""Confidence that no word of noise has; models that cannot tell how sure they are say 1."""
ENOUGH: Final = 0.0
"""Log-odds of the model and the detector and the logarithm of the words in a second, together, under which nobody
spoke …"""
SETTLED: Final = 4.0
"""… and from which on somebody did. Between them Silero is asked, …"""
CONFIRMED: Final = 3.0
"""… and somebody spoke if this is reached with its log-odds."""
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
    surest = max(word.confidence for word in words)
    if surest >= (TRUSTED if seconds < BRIEF else CERTAIN):
        return False
    return surest + sum(word.confidence for word in words) / seconds / 2 < SURE


@dataclass(frozen=True, slots=True)
class Finding:
    """What the model and the detector say of a waveform."""

    words: tuple[Word, ...]
    """Those near which somebody speaks, if anybody does."""
    odds: float
    """The logarithm of how much likelier than not that is."""
    settled: bool
    """Whether nobody else has to be asked."""


NOBODY: Final = Finding((), -inf, settled=True)


def spoken(
    words: Sequence[Word], waveform: Waveform, detect: Callable[[Waveform], Probabilities] = speech_probabilities
) -> Finding:
    """Find the words of a waveform, in its time, near which somebody speaks: a millisecond for 5 s."""
    if not len(waveform):
        return NOBODY
    probabilities = detect(waveform)
    seconds = len(waveform) / SAMPLE_RATE
    surest = max(word.confidence for word in words)
    odds = _log_odds(float(probabilities.max())) + _log_odds(surest) + log(max(RARELY, len(words) / seconds))
    near = tuple(word for word in words if _near(word, probabilities) >= ANYWHERE)
    if odds < ENOUGH or not near:
        return NOBODY
    return Finding(near, odds, settled=odds >= SETTLED or seconds < BRIEF)


def confirmed(finding: Finding, waveform: Waveform, listen: Callable[[Waveform], Iterable[Matrix]] = listen) -> Finding:
    """Ask Silero, too, second after second until it is sure enough: ten milliseconds for 5 s in which nobody speaks.

    One surer chunk is sometimes a chirp's, so the two surest count.
    """
    surest = np.zeros(2)
    for probabilities in listen(waveform):
        surest = np.sort(np.concatenate((surest, probabilities)))[-2:]
        odds = finding.odds + _log_odds(float(surest.mean()))
        if odds >= CONFIRMED:
            return Finding(finding.words, odds, settled=True)
    return NOBODY


def _near(word: Word, probabilities: Probabilities) -> float:
    """Find the highest probability near a word; 1 where its times are only an estimate."""
    if not word.tokens:
        return 1.0
    first = max(0, int((word.start - REACH) / FRAME_SECONDS))
    return float(probabilities[first : int((word.end + REACH) / FRAME_SECONDS) + 1].max(initial=0.0))


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1 - _SUREST), _SUREST)
    return log(inside / (1 - inside))
