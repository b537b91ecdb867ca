"""Where to cut: spans of speech into pieces that fit a model. Integers only, no audio.

    span, span, … ──▶ Draft ──▶ Cut, Cut, …

A draft collects spans until the next one does not fit. It then cuts in the silence that best
trades length against fill; speech without any silence is cut where it must be, and the next cut
repeats `overlap` of it. Long silences end a draft: they belong to no cut. A decision never
depends on how much is known beyond what it needs, so streams are cut like whole recordings.
All positions are samples of the recording.
"""

from dataclasses import dataclass
from typing import TypeAlias

from nautilus.types import SAMPLE_RATE

Piece: TypeAlias = tuple[int, int]
"""First sample and the one after the last."""


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How recordings become windows. All durations in seconds."""

    max_seconds: float = 30.0
    """Longest window; recordings up to this length are passed as they are."""
    overlap: float = 2.0
    """Repeated in the next window where speech had to be cut without a silence."""
    min_silence: float = 0.3
    """Shortest silence to cut in."""
    max_silence: float = 1.0
    """Longer silences are not sent to the model."""
    lead: float = 0.2
    """Silence that is kept before speech where silence is left out."""
    tail: float = 0.2
    """Silence that is kept behind speech where silence is left out."""
    short: float = 2.0
    """Windows should not be shorter than this: shorter ones join a neighbour within reach."""
    remove_silence: bool = False
    """Shorten silences inside windows, too, to `tail` and `lead`."""


def utterance_limits(max_seconds: float) -> WindowLimits:
    """Return limits for models that know single utterances: a window ends at every pause.

    Such a model was trained on clips that start shortly before somebody speaks, and is worse at what comes after the
    first pause of a window, and after a lead that is shorter or longer than in its training.
    """
    return WindowLimits(max_seconds, max_silence=0.3, lead=0.4, tail=0.06, short=0.1)


@dataclass(frozen=True, slots=True)
class Cut:
    """The audio of one window."""

    pieces: tuple[Piece, ...]
    overlap: int = 0
    """Samples at its start that the cut before has as well."""

    @property
    def length(self) -> int:
        """Samples in all pieces."""
        return sum(stop - start for start, stop in self.pieces)


class Draft:
    """The window that is being filled."""

    REACH = 3 * SAMPLE_RATE
    """Longest silence that such a joint may bridge."""
    LONG_GAP_BONUS = 0.3
    """What a silence of `max_silence` is worth against a wholly filled window."""

    def __init__(self, limits: WindowLimits) -> None:
        self._max = _samples(limits.max_seconds)
        self._overlap = min(_samples(limits.overlap), self._max // 2)
        self._skip = _samples(limits.max_silence)
        self._short = _samples(limits.short)
        self._reach = max(self.REACH, self._skip)
        self._tail = min(_samples(limits.tail), self._skip // 2)
        self._lead = _samples(limits.lead)
        self._inner = self._tail + self._lead if limits.remove_silence else self._max
        self._spans: list[Piece] = []
        self._start = 0
        self._repeated = 0
        self._done = 0
        self._placing: int | None = None

    def __repr__(self) -> str:
        return f"Draft(start={self._start}, spans={self._spans})"

    @property
    def start(self) -> int | None:
        """First sample that a later cut may need; None while nothing is drafted."""
        return self._start if self._spans else None

    def place(self, start: int, end: int, ended: bool) -> list[Cut]:
        """Take a span of speech, or what is known of it so far (then call again with more)."""
        cuts: list[Cut] = []
        if self._placing == start:
            self._spans[-1] = (self._spans[-1][0], max(end, self._spans[-1][1]))
        elif not ended and end - start < self._short:
            return cuts
        else:
            if self._spans and self._separates(start - self._spans[-1][1], end - start):
                cuts.append(self._take(len(self._spans), self._tail))
            if not self._spans:
                self._start, self._repeated = max(self._done, start - self._lead), 0
            self._spans.append((start, end))
            self._placing = start
        cuts += self._overflow()
        if ended:
            self._placing = None
        return cuts

    def rest(self, now: int) -> list[Cut]:
        """Cut what a silence until `now` makes final."""
        if self._spans and self._placing is None and now - self._spans[-1][1] > self._reach:
            return [self._take(len(self._spans), self._tail)]
        return []

    def finish(self, end: int) -> list[Cut]:
        """Cut the rest, when the recording ends at `end`."""
        return [self._take(len(self._spans), min(self._tail, end - self._spans[-1][1]))] if self._spans else []

    def _separates(self, gap: int, length: int) -> bool:
        """Tell whether a gap before a span of this length ends the draft."""
        if gap <= self._skip or gap > self._reach:
            return gap > self._skip
        return length >= self._short and self._length(len(self._spans)) >= self._short

    def _overflow(self) -> list[Cut]:
        """Cut until what is left fits."""
        cuts = []
        while self._length(len(self._spans)) > self._max:
            cuts.append(self._split(self._best()) if len(self._spans) > 1 else self._chop())
        return cuts

    def _best(self) -> int:
        """Choose how many spans go into the next cut: the fullest window, longer silences preferred."""

        def worth(count: int) -> float:
            gap = min(self._gap(count), self._skip) / max(1, self._skip)
            return self._length(count) / self._max + self.LONG_GAP_BONUS * gap

        return max(
            (count for count in range(1, len(self._spans)) if self._length(count) <= self._max), key=worth, default=0
        )

    def _split(self, count: int) -> Cut:
        """Cut in the silence after `count` spans: in its middle, or off both edges of a long one."""
        if count == 0:
            return self._chop()
        gap, following = self._gap(count), self._spans[count][0]
        if gap <= min(self._skip, self._inner):
            tail = gap * self._tail // max(1, self._tail + self._lead)
            lead = gap - tail
        else:
            tail = min(self._tail, gap // 2)
            lead = min(self._lead, gap - tail)
        cut = self._take(count, tail)
        self._start, self._repeated = following - lead, 0
        return cut

    def _chop(self) -> Cut:
        """Cut the first span where the window is full and repeat some of it."""
        stop = self._start + self._max
        cut = Cut(((self._start, stop),), self._repeated)
        self._start, self._repeated = stop - self._overlap, self._overlap
        self._spans[0] = (self._start, self._spans[0][1])
        return cut

    def _take(self, count: int, tail: int) -> Cut:
        """Remove `count` spans; up to `tail` samples of the silence after them come along."""
        pieces = self._pieces(count)
        room = self._max - sum(stop - start for start, stop in pieces)
        pieces[-1] = (pieces[-1][0], pieces[-1][1] + min(tail, room))
        self._spans = self._spans[count:]
        self._done = pieces[-1][1]
        return Cut(tuple(pieces), self._repeated)

    def _pieces(self, count: int) -> list[Piece]:
        """Collect what the first `count` spans need, their silences shortened where they must be."""
        pieces, start = [], self._start
        for index in range(1, count):
            if self._gap(index) > self._inner:
                pieces.append((start, self._spans[index - 1][1] + self._tail))
                start = self._spans[index][0] - self._lead
        return [*pieces, (start, self._spans[count - 1][1])]

    def _length(self, count: int) -> int:
        """Count the samples that the first `count` spans take."""
        return sum(stop - start for start, stop in self._pieces(count))

    def _gap(self, count: int) -> int:
        """Measure the silence between span `count` - 1 and span `count`."""
        return self._spans[count][0] - self._spans[count - 1][1]


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
