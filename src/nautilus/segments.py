"""Words → segments that read as one: a sentence, or what was said between two pauses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nautilus.types import Segment, Word

SENTENCE_ENDS = (".", "?", "!", "\u2026", "\u3002", "\uff1f", "\uff01")
"""Latin and CJK full stops, question and exclamation marks, and the ellipsis."""
CLOSING_QUOTES: Final = "\"'\u2019\u201d\u00bb)]"
"""What may follow the end of a sentence."""
_ABBREVIATIONS: Final = """
mr. mrs. ms. dr. prof. st. sr. jr. vs. etc. e.g. i.e. vol. inc. ltd. co. u.s. a.m. p.m. z.b. bzw. usw.
"""
ABBREVIATIONS: Final = frozenset(_ABBREVIATIONS.split())
"""Their full stop ends no sentence by itself."""


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
    """Seconds after which it ends in any case, at the longest of its pauses."""


DEFAULT_LIMITS = SegmentLimits()


def segments_of(words: Iterable[Word], limits: SegmentLimits = DEFAULT_LIMITS) -> tuple[Segment, ...]:
    """Group words, which are in order and in recording time, into segments."""
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _ends(groups[-1], word, limits):
            groups.append([word])
            continue
        groups[-1].append(word)
        if word.end - groups[-1][0].start > limits.hard:
            groups += _halves(groups.pop())
    return tuple(Segment(group[0].start, max(word.end for word in group), tuple(group)) for group in groups)


def _ends(group: list[Word], following: Word, limits: SegmentLimits) -> bool:
    pause = following.start - group[-1].end
    length = following.end - group[0].start
    if _ends_sentence(group[-1].text) or pause >= limits.pause:
        return True
    return length > limits.longest and pause >= limits.breath


def _ends_sentence(text: str) -> bool:
    """Whether a word is the last of its sentence: not so "Dr." and initials."""
    bare = text.rstrip(CLOSING_QUOTES)
    if not bare.endswith(SENTENCE_ENDS):
        return False
    initial = len(bare) == 2 and bare[0].isupper() and bare[0] != "I" and bare[1] == "."  # noqa: PLR2004 - a letter, a stop
    return not initial and bare.casefold() not in ABBREVIATIONS


def _halves(group: list[Word]) -> list[list[Word]]:
    """Cut a group in the longest pause of its later half, the last of equals."""
    if len(group) == 1:
        return [group]
    place = max(
        range((len(group) + 1) // 2, len(group)), key=lambda index: (group[index].start - group[index - 1].end, index)
    )
    return [group[:place], group[place:]]
