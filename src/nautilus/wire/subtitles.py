"""Segments → SubRip and WebVTT, cut to what can be read: two lines of 42 characters, seven seconds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from nautilus.types import Segment, Word

LINE: Final = 42
"""Characters in a line (the Netflix and BBC guides say 37 to 42)."""
LINES: Final = 2
LONGEST: Final = 7.0
"""Seconds that a cue stays."""
SHORTEST: Final = 0.8
"""Seconds that a cue stays at least, where the next one leaves room."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; times in seconds."""

    start: float
    end: float
    text: str


def cues_of(segments: Iterable[Segment]) -> list[Cue]:
    """Cut segments into cues; a short one stays for a moment if the next leaves room."""
    groups = [group for segment in segments for group in _groups(segment.words)]
    cues = []
    for index, group in enumerate(groups):
        start, end = group[0].start, group[-1].end
        following = groups[index + 1][0].start if index + 1 < len(groups) else float("inf")
        end = max(end, min(start + SHORTEST, following))
        cues.append(Cue(start, end, "\n".join(wrap(_text(group), LINE, break_long_words=False)[: LINES + 1])))
    return cues


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


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        candidate = [*group, word]
        too_wide = len(wrap(_text(candidate), LINE, break_long_words=False)) > LINES
        if group and (too_wide or word.end - group[0].start > LONGEST):
            yield group
            group = [word]
        else:
            group = candidate
    if group:
        yield group


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    return (
        f"{milliseconds // 3_600_000:02}:{milliseconds // 60_000 % 60:02}:"
        f"{milliseconds // 1000 % 60:02}{point}{milliseconds % 1000:03}"
    )
