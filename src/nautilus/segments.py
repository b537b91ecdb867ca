"""Words → segments that read as one: a sentence, or what was said between two pauses."""

from collections.abc import Iterable
from dataclasses import dataclass

from nautilus.types import Segment, Word

SENTENCE_ENDS = (".", "?", "!", "\u2026", "\u3002", "\uff1f", "\uff01")
"""Latin and CJK full stops, question and exclamation marks, and the ellipsis."""


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When a segment ends."""

    pause: float = 0.8
    """Seconds without a word that end a segment."""
    longest: float = 15.0
    """Seconds after which the next pause of `breath` seconds ends it."""
    breath: float = 0.25
    """Seconds; the smaller pause that ends a long segment."""
    hard: float = 30.0
    """Seconds after which it ends in any case."""


DEFAULT_LIMITS = SegmentLimits()


def segments_of(words: Iterable[Word], limits: SegmentLimits = DEFAULT_LIMITS) -> tuple[Segment, ...]:
    """Group words, which are in order and in recording time, into segments."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and not _ends(groups[-1], word, limits):
            groups[-1].append(word)
        else:
            groups.append([word])
    return tuple(Segment(group[0].start, max(word.end for word in group), tuple(group)) for group in groups)


def _ends(group: list[Word], following: Word, limits: SegmentLimits) -> bool:
    pause = following.start - group[-1].end
    length = following.end - group[0].start
    if group[-1].text.endswith(SENTENCE_ENDS) or pause >= limits.pause or length > limits.hard:
        return True
    return length > limits.longest and pause >= limits.breath
