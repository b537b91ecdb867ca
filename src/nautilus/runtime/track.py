"""Where somebody speaks in one utterance of a live stream, as the detector tells it bit by bit.

    silent ──speech──▶ open ──0.3 s without──▶ paused ──speech──▶ open …

All times are seconds of the stream.
"""

from typing import Final

from nautilus.audio.vad import Probabilities, Span, SpanFinder, VadLimits

PAUSE: Final = 0.3
"""Seconds without speech after which an utterance is worth to be heard as a whole: it may be over."""
SHORTEST: Final = 0.1
"""Seconds; what is shorter is no speech."""


class SpeechTrack:
    """Follows the speech of the utterance that goes on; frames are judged in order, each once."""

    def __init__(self) -> None:
        self._finder = SpanFinder(VadLimits(min_speech=SHORTEST, min_silence=PAUSE))
        self._begin = 0.0
        self._closed: Span | None = None

    def __repr__(self) -> str:
        return f"SpeechTrack(heard={self.heard:.2f}, speech={self.speech}, open={self.open})"

    @property
    def heard(self) -> float:
        """Up to when the stream has been judged."""
        return self._finder.heard

    @property
    def speech(self) -> Span | None:
        """From the first speech of the utterance to the last; None while there is none."""
        opened = self._within(self._finder.open)
        if self._closed is None or opened is None:
            return self._closed or opened
        return Span(self._closed.start, opened.end)

    @property
    def open(self) -> bool:
        """Whether somebody speaks, or has just stopped."""
        return self._within(self._finder.open) is not None

    def add(self, probabilities: Probabilities) -> float | None:
        """Take the next frames, fewer than `PAUSE`; return when speech ended, if they bring its pause."""
        for span in self._finder.add(probabilities):
            if within := self._within(span):
                self._closed = Span(self._closed.start if self._closed else within.start, within.end)
                return within.end
        return None

    def begin(self, at: float) -> None:
        """Begin a new utterance: what was said before is none of its."""
        self._begin, self._closed = at, None

    def _within(self, span: Span | None) -> Span | None:
        if span is None or span.end - max(span.start, self._begin) < SHORTEST - 1e-6:
            return None
        return Span(max(span.start, self._begin), span.end)
