"""Recordings into windows that a model hears comfortably, while they arrive.

    blocks ──▶ tape ──▶ detector ──▶ spans ──▶ draft ──▶ windows

A recording that fits into one window is passed as it is; the detector never runs. Of a longer one
only speech is passed, in windows cut in its silences. Each window carries the map from its own
time to the recording's. Memory: about two windows and one block, however long the recording is.
The detector hears fixed stretches of the recording, so windows don't depend on the blocks' sizes.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from nautilus.audio.cuts import Cut, Draft, WindowLimits
from nautilus.audio.seam import join
from nautilus.audio.tape import Tape
from nautilus.audio.vad import (
    CONTEXT_FRAMES,
    HOP,
    STEP_FRAMES,
    Probabilities,
    Span,
    SpanFinder,
    VadLimits,
    speech_probabilities,
)
from nautilus.types import SAMPLE_RATE, Waveform, Word

__all__ = ["Planner", "TimeMap", "Window", "WindowLimits", "in_recording", "join"]

_STEP: Final = STEP_FRAMES * HOP
_CONTEXT: Final = CONTEXT_FRAMES * HOP
_HEARD_BEFORE: Final = _STEP + 2 * _CONTEXT
"""Samples kept behind the detector, so that its last, short stretch can be heard with what came before."""


@dataclass(frozen=True, slots=True)
class TimeMap:
    """From seconds of a window to seconds of its recording."""

    window_starts: tuple[float, ...]
    """Where each unbroken piece starts in the window; the first is 0."""
    recording_starts: tuple[float, ...]
    """Where it starts in the recording."""
    seconds: float
    """Length of the window."""

    def to_recording(self, seconds: float) -> float:
        """Return the time in the recording; it never decreases with `seconds`, which is clipped to the window."""
        inside = min(max(seconds, 0.0), self.seconds)
        piece = bisect_right(self.window_starts, inside) - 1
        return self.recording_starts[piece] + inside - self.window_starts[piece]


@dataclass(frozen=True, slots=True)
class Window:
    """What the model hears at once."""

    audio: Waveform
    time_map: TimeMap
    fresh_from: float
    """Recording time in seconds: words whose middle lies before it belong to the window before."""
    seam: Span | None = None
    """The part at its start, in recording time, that the window before has as well."""
    recorded: Waveform | None = None
    """The same seconds before they were cleaned; None where they were not."""

    @property
    def start(self) -> float:
        """Recording time in seconds at which it starts."""
        return self.time_map.to_recording(0.0)

    @property
    def end(self) -> float:
        """Recording time in seconds at which it ends."""
        return self.time_map.to_recording(self.time_map.seconds)


def in_recording(word: Word, window: Window) -> Word:
    """Return a word of a window with the times that it has in the recording."""
    start, end = window.time_map.to_recording(word.start), window.time_map.to_recording(word.end)
    return word if (start, end) == (word.start, word.end) else replace(word, start=start, end=max(start, end))


class Planner:
    """Cuts a stream of blocks into windows."""

    def __init__(
        self, limits: WindowLimits, detect: Callable[[Waveform], Probabilities] = speech_probabilities
    ) -> None:
        self._limits = limits
        self._detect = detect
        self._tape = Tape()
        self._finder = SpanFinder(VadLimits(min_silence=limits.min_silence))
        self._draft = Draft(limits)
        self._analysed = 0
        self.speech_seconds = 0.0
        """Seconds of the recording that are in windows so far."""

    def __repr__(self) -> str:
        return f"Planner(heard={self._tape.end / SAMPLE_RATE:.2f}, finder={self._finder}, draft={self._draft})"

    def whole(self, recording: Waveform) -> list[Window]:
        """Return the windows of a recording that is all there: mostly one, which is the recording itself, no copy."""
        if self._tape.end or not 0 < len(recording) <= self._limits.max_seconds * SAMPLE_RATE:
            return [*self.add(recording), *self.finish()]
        seconds = len(recording) / SAMPLE_RATE
        self.speech_seconds = seconds
        return [Window(recording, TimeMap((0.0,), (0.0,), seconds), 0.0)]

    def add(self, block: Waveform) -> list[Window]:
        """Take the next samples, any number; returns the windows that are complete now."""
        windows = []
        for place in range(0, len(block), _STEP):
            self._tape.append(block[place : place + _STEP])
            if self._tape.end > self._limits.max_seconds * SAMPLE_RATE:
                windows += self._advance()
        return windows

    def finish(self) -> list[Window]:
        """Return the remaining windows; the recording is over."""
        end = self._tape.end
        if end <= self._limits.max_seconds * SAMPLE_RATE:
            return [self._window(Cut(((0, end),)))] if end else []
        cuts = self._listen(end) if end > self._analysed else []
        for span in self._finder.finish():
            cuts += self._draft.place(_sample(span.start), min(end, _sample(span.end)), ended=True)
        return [self._window(cut) for cut in [*cuts, *self._draft.finish(end)]]

    def _advance(self) -> list[Window]:
        """Let the detector hear all complete stretches."""
        windows = []
        while self._tape.end >= self._analysed + _STEP + _CONTEXT:
            windows += [self._window(cut) for cut in self._listen(self._analysed + _STEP)]
            needed = self._analysed - _HEARD_BEFORE
            self._tape.forget(needed if self._draft.start is None else min(needed, self._draft.start))
        return windows

    def _listen(self, until: int) -> list[Cut]:
        """Detect speech up to sample `until` and cut what can be cut."""
        hi = min(until + _CONTEXT, self._tape.end)
        lo = max(0, self._analysed - _CONTEXT)
        if until == self._tape.end:
            lo = max(0, min(lo, (hi - _HEARD_BEFORE) // HOP * HOP))
        heard = self._detect(self._tape.read(lo, hi))
        spans = self._finder.add(heard[(self._analysed - lo) // HOP : -(-(until - lo) // HOP)])
        self._analysed = until
        cuts: list[Cut] = []
        for span in spans:
            cuts += self._draft.place(_sample(span.start), min(until, _sample(span.end)), ended=True)
        return cuts + self._pending(until)

    def _pending(self, until: int) -> list[Cut]:
        """Cut what speech that goes on, or silence, makes certain."""
        span = self._finder.open
        if span is None:
            return self._draft.rest(until)
        return self._draft.place(_sample(span.start), min(until, _sample(span.end)), ended=False)

    def _window(self, cut: Cut) -> Window:
        """Read the audio of a cut."""
        starts = [start for start, _ in cut.pieces]
        lengths = [stop - start for start, stop in cut.pieces]
        places = [sum(lengths[:index]) for index in range(len(lengths))]
        time_map = TimeMap(_seconds(places), _seconds(starts), cut.length / SAMPLE_RATE)
        audio = np.concatenate([self._tape.read(start, stop) for start, stop in cut.pieces])
        self.speech_seconds += (cut.length - cut.overlap) / SAMPLE_RATE
        begin, shared = starts[0] / SAMPLE_RATE, cut.overlap / SAMPLE_RATE
        return Window(audio, time_map, begin + shared / 2, Span(begin, begin + shared) if shared else None)


def _sample(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _seconds(samples: list[int]) -> tuple[float, ...]:
    return tuple(sample / SAMPLE_RATE for sample in samples)
