"""One live conversation without any I/O: what the engine hears goes in, events come out.

    SILENT ──a word──▶ SPEAKING ──silence, commit, too long, or the end──▶ SILENT

Nothing here awaits, reads a clock or knows a wire format. Where speech starts and ends, the model itself tells: it
hears no sub-words in silence and noise, which costs nothing.
"""

from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from nautilus.engines.base import Live
from nautilus.types import Word


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """When an utterance ends, and how much of a stream may wait."""

    silence: float = 0.7
    """Seconds without a word that end an utterance."""
    longest: float = 30.0
    """Seconds after which an utterance ends at the next pause between words, or soon after without one."""
    most_waiting: float = 30.0
    """Seconds of sound that may wait for the engine before the client is read no further."""
    idle: float = 120.0
    """Seconds after which a client that sends nothing is sent away, so that its place is free."""
    unread: float = 60.0
    """Seconds after which a client that reads nothing of what it is told is sent away; until then it is waited for."""
    resume: float = 30.0
    """Seconds that a stream whose client vanished keeps its place for it to come back; 0: none."""
    most_kept: int = 16
    """Streams kept for vanished clients; where there are more, the one that vanished first ends."""
    longest_stream: float = 14_400.0
    """Seconds after which a stream ends, whatever is said."""
    notice: float = 60.0
    """Seconds before that end at which the client is told."""
    second_pass: float = 5.0
    """Seconds that the final model may take for an utterance; after that the words of the first pass are final."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Someone began to speak."""

    utterance: int
    at: float
    """Seconds of the stream."""


@dataclass(frozen=True, slots=True)
class Partial:
    """The words of an utterance so far; the next one replaces it."""

    utterance: int
    words: tuple[Word, ...]
    until: float
    """Seconds of the stream that have been heard."""
    stable: int = 0
    """How many of the first words will hardly change any more."""


@dataclass(frozen=True, slots=True)
class Final:
    """The words of a finished utterance; they never change."""

    utterance: int
    words: tuple[Word, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Committed:
    """All that the client has ended has been told."""

    utterance: int | None
    """The one that it ended; None if nothing was said."""
    until: float
    """Seconds of the stream."""
    cleared: bool = False
    """Whether the client had the utterance forgotten."""


Event: TypeAlias = SpeechStarted | Partial | Final | Committed

_PAUSE = 0.16
"""Seconds without a word in which a long utterance may be cut."""
_SOON = 1.25
"""How many times `longest` an utterance without pauses may last."""


class Session:
    """Cuts a stream into utterances and tells what is new."""

    def __init__(self, limits: StreamLimits) -> None:
        self.limits = limits
        self._utterance = 0
        self._speaking = False
        self._told: tuple[tuple[str, ...], int] = ((), 0)
        self._begun = 0.0  # seconds: where what the engine tells begins

    def heard(self, live: Live) -> tuple[list[Event], bool]:
        """Take what is heard of the utterance so far; return what is new, and whether the utterance ends here.

        The one that does is told by `ended`.
        """
        if not live.hypothesis.words:
            # Silence is forgotten bit by bit, so that an hour of it is no hour of frames.
            return [], self._ends_without_words(live)
        events = self._begin(live)
        if self._ends(live):
            return events, True
        texts = tuple(word.text for word in live.hypothesis.words)
        stable = len(texts) - 1 if live.stable is None else live.stable
        if (texts, stable) != self._told:
            events.append(Partial(self._utterance, live.hypothesis.words, live.until, stable))
        self._told = (texts, stable)
        return events, False

    def ended(self, live: Live) -> list[Event]:
        """Take all that was heard of the utterance, which is over; nothing comes of one without words."""
        words = live.hypothesis.words
        self._begun = live.until
        if not words:
            return []
        events = [*self._begin(live), Final(self._utterance, words, live.until)]
        self._utterance += 1
        self._speaking, self._told = False, ((), 0)
        return events

    def committed(self, live: Live) -> list[Event]:
        """Take all that was heard of the utterance, which the client ends."""
        utterance = self._utterance if live.hypothesis.words else None
        return [*self.ended(live), Committed(utterance, live.until)]

    def clear(self, live: Live) -> list[Event]:
        """Forget the utterance."""
        self._begun = live.until
        self._speaking, self._told = False, ((), 0)
        return [Committed(None, live.until, cleared=True)]

    def _begin(self, live: Live) -> list[Event]:
        if self._speaking:
            return []
        self._speaking = True
        return [SpeechStarted(self._utterance, live.hypothesis.words[0].start)]

    def _ends(self, live: Live) -> bool:
        lasts = live.until - live.hypothesis.words[0].start
        return (
            (live.over and self.limits.silence < inf)  # else the client alone ends utterances
            or live.silence >= self.limits.silence
            or (lasts >= self.limits.longest and live.silence >= _PAUSE)
            or lasts >= self.limits.longest * _SOON
        )

    def _ends_without_words(self, live: Live) -> bool:
        if live.until - self._begun < self.limits.longest:
            return False
        self._begun = live.until
        return True
