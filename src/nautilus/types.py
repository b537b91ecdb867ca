"""The values that every room shares. Frozen, without behaviour beyond reading them.

recording → waveform → window → hypothesis → transcript
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE: Final = 16_000
"""Hertz. Every waveform inside the server has this rate."""

Waveform: TypeAlias = NDArray[np.float32]
"""Mono audio, shape (samples,), float32 in about [-1, 1], at `SAMPLE_RATE`."""

Level = Literal["none", "low", "medium", "high", "auto"]
"""How much a recording is cleaned before the model hears it."""

LEVELS: Final[tuple[Level, ...]] = ("none", "low", "medium", "high", "auto")


MAX_KEYWORDS: Final = 500
MAX_KEYWORD_CHARACTERS: Final = 64


class Priority(IntEnum):
    """Who goes first when many wait; the smaller goes first."""

    LIVE = 0
    REQUEST = 1
    JOB = 2


@dataclass(frozen=True, slots=True)
class Claim:
    """By what right something waits: how urgent it is, and whose."""

    priority: Priority = Priority.REQUEST
    owner: str = ""
    """The tenant. Those who wait with one priority get equal shares, owner by owner."""


USUAL: Final = Claim()


@dataclass(frozen=True, slots=True)
class Options:
    """What may change a model's answer. Windows with equal options may share a batch."""

    language: str | None = None
    """ISO-639-1 code of the language spoken; None lets the model decide."""
    translate_to: str | None = None
    """ISO-639-1 code to translate into; None transcribes."""
    keywords: tuple[str, ...] = ()
    """Words and phrases to expect, at most `MAX_KEYWORDS` of `MAX_KEYWORD_CHARACTERS` each."""


@dataclass(frozen=True, slots=True)
class Token:
    """One sub-word as the model emitted it."""

    text: str
    logprob: float
    """Natural logarithm of its probability."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it was said."""

    text: str
    start: float
    """Seconds from the start of the audio it was heard in."""
    end: float
    confidence: float
    """Between 0 and 1: the probability that all of its sub-words are right, calibrated where the model was measured."""
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a model heard in one window; times start at the window's own zero."""

    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Words that read as one: a sentence, or what was said between two pauses."""

    start: float
    end: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What was measured of a recording."""

    duration: float
    """Seconds of audio that were decoded."""
    sample_rate: int
    """Hertz, as recorded."""
    channels: int
    container: str
    codec: str
    speech_seconds: float
    """Seconds that the model was given to hear."""
    snr: float | None = None
    """Estimated signal-to-noise ratio in dB; None where it was not measured."""
    bandwidth: float | None = None
    """Hertz above which next to nothing was recorded, 4,000 and less over a telephone; None as for `snr`."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went, in seconds. Parts overlap, so they may add up to more than `total`."""

    decode: float = 0.0
    enhance: float = 0.0
    queue: float = 0.0
    inference: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The answer to one recording. All times refer to the recording as it was sent."""

    text: str
    segments: tuple[Segment, ...]
    model: str
    language: str | None
    audio: AudioFacts
    timings: Timings = field(default_factory=Timings)
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[Word, ...]:
        """All words in order."""
        return tuple(word for segment in self.segments for word in segment.words)
