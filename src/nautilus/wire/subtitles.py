"""Segments → SubRip and WebVTT that can be read: where a cue and a line break, and how long a cue stays.

    segments → words ──cheapest breaks──▶ cues ──▶ two lines each, times stretched into the silence after them

Sources: Netflix Timed Text Style Guide (general requirements, English: 42 characters, 2 lines, up to 7 s, 17 to 20
characters per second, 2 frames between cues, no gaps between 3 and 11 frames) and BBC Subtitle Guidelines (where to
break: at punctuation, before conjunctions and prepositions, never after an article; lower line rather the longer).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf
from typing import Final

from nautilus.types import Segment, Word

LINE: Final = 42
"""Characters in a line."""
LONGEST: Final = 7.0
"""Seconds that a cue stays at most."""
SHORTEST: Final = 1.0
"""Seconds that a cue stays at least, where the next one leaves room."""
SPEED: Final = 17.0
"""Characters per second that everybody can read; a cue with more stays longer where the next one leaves room."""
GAP: Final = 0.08
"""Seconds between cues (2 frames), so that the eye notices the change."""
SMALL_GAP: Final = 0.5
"""Seconds; shorter pauses between cues are filled, since a blink disturbs."""
LEAST: Final = 1.0
"""What any cue costs, so that there are few; all other costs are compared with it."""
PAUSE: Final = 1.0
"""Seconds of silence that no cue bridges: nobody reads what is not yet said."""

CLAUSE: Final = (",", ";", ":", "\u2014", "\u3001", "\uff0c")
_OPENERS: Final = """
and but or so because that which who when where while if as than though until
to of in on at for with from by about into over after before under between through
und aber oder denn weil dass wenn et mais ou parce puis y pero porque pues
"""
_LEANING: Final = """
a an the my your his her its our their this these those no not very is are was were
mr mrs ms dr to of in on at for with from by and but or
der die das ein eine le la les un une el los las
"""
OPENERS: Final = frozenset(_OPENERS.split())
"""Conjunctions and prepositions: a line may end before them."""
LEANING: Final = frozenset(_LEANING.split())
"""Words that belong to the next one: a line should not end with them."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; times in seconds."""

    start: float
    end: float
    text: str
    """One or two lines."""


def cues_of(segments: Iterable[Segment]) -> list[Cue]:
    """Cut segments into cues, none of which overlaps the next."""
    cutting = _Cutting(segments)
    places = cutting.cheapest()
    return [cutting.cue(first, last) for first, last in pairwise(places)]


def srt(segments: Iterable[Segment]) -> str:
    """Render SubRip."""
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues_of(segments), 1)
    )
    return "\n".join(blocks)


def vtt(segments: Iterable[Segment]) -> str:
    """Render WebVTT (W3C)."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n" for cue in cues_of(segments)
    )
    return "\n".join(["WEBVTT\n", *blocks])


class _Cutting:
    """All words, how bad a break after each is, and what a cue of words [first, last) costs."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._words: list[Word] = []
        self._breaks: list[float] = []
        for segment in segments:
            self._breaks += [_badness(one, following) for one, following in pairwise(segment.words)]
            self._breaks += [0.0] * bool(segment.words)
            self._words += segment.words
        self._offsets = list(accumulate((len(word.text) + 1 for word in self._words), initial=0))
        self._starts = [*(word.start for word in self._words), inf]

    def cheapest(self) -> list[int]:
        """Choose where cues start, and the end: the way of least cost over all ways to cut the words."""
        costs, before = [0.0], [0]
        for last in range(1, len(self._words) + 1):
            best, start = costs[last - 1] + self._cost(last - 1, last), last - 1
            for first in range(last - 2, -1, -1):
                if not self._fits(first, last):
                    break
                if costs[first] + LEAST < best and (cost := costs[first] + self._cost(first, last)) < best:
                    best, start = cost, first
            costs.append(best)
            before.append(start)
        places = [len(self._words)]
        while places[-1]:
            places.append(before[places[-1]])
        return places[::-1]

    def cue(self, first: int, last: int) -> Cue:
        """Let a cue stay as long as it takes to read, up to the next one, and leave no blink between them."""
        start, end = self._starts[first], self._words[last - 1].end
        latest = max(start, min(self._starts[last] - GAP, start + LONGEST))
        wanted = max(end, start + SHORTEST, start + self._length(first, last) / SPEED)
        if self._starts[last] - wanted < SMALL_GAP:
            wanted = latest
        parting = None if self._length(first, last) <= LINE else self._line_break(first, last)
        lines = [(first, last)] if parting is None else [(first, parting[1]), (parting[1], last)]
        text = "\n".join(" ".join(word.text for word in self._words[low:high]) for low, high in lines)
        return Cue(start, min(wanted, latest), text)

    def _fits(self, first: int, last: int) -> bool:
        """Whether words may be one cue, given that those without the first may; only their lines are left to see."""
        words, length = self._words, self._length(first, last)
        if length > 2 * LINE + 1 or words[first + 1].start - words[first].end >= PAUSE:
            return False
        return words[last - 1].end - words[first].start <= LONGEST

    def _cost(self, first: int, last: int) -> float:
        """Rate a cue: each costs, and so do a bad end, bad lines, hidden ends of sentences, and haste."""
        length = self._length(first, last)
        until = min(self._starts[last] - GAP, self._starts[first] + LONGEST)
        seconds = max(0.1, until - self._starts[first])
        hidden = self._breaks[first : last - 1].count(0.0)
        hasty = min(1.0, max(0.0, length / seconds / SPEED - 1)) + max(0.0, SHORTEST - seconds)
        lines = 0.0
        if length > LINE and last - first > 1:
            parting = self._line_break(first, last)
            lines = parting[0] / 2 if parting else inf
        return LEAST + 2 * self._breaks[last - 1] + 1.2 * hidden + 2 * hasty + lines

    def _line_break(self, first: int, last: int) -> tuple[float, int] | None:
        """Choose where two lines part, naturally and about in the middle, and rate it; None where they cannot."""
        best: tuple[float, int] | None = None
        for place in range(last - 1, first, -1):
            top, bottom = self._length(first, place), self._length(place, last)
            if bottom > LINE:
                break
            if top <= LINE:
                uneven = abs(top - bottom) / LINE + 0.1 * (top > bottom)
                rated = (self._breaks[place - 1] + uneven, place)
                best = min(best, rated) if best else rated
        return best

    def _length(self, first: int, last: int) -> int:
        """Count the characters of words [first, last), joined by spaces."""
        return self._offsets[last] - self._offsets[first] - 1


def _badness(word: Word, following: Word) -> float:
    """Rate a break between two words of a sentence: 0 is where everybody would break, 2 hurts."""
    pause = following.start - word.end
    if pause >= SMALL_GAP:
        return 0.0
    if word.text.endswith(CLAUSE):
        return 0.3
    bad = 0.6 if _plain(following) in OPENERS else 1.0
    return max(0.3, bad + (_plain(word) in LEANING) - pause)


def _plain(word: Word) -> str:
    return "".join(letter for letter in word.text.casefold() if letter.isalnum())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1000 % 60:02}{point}{milliseconds % 1000:03}"
    )
