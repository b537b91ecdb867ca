"""One list of words from two windows that heard the same seconds."""

from collections.abc import Sequence
from typing import Final

from nautilus.audio.vad import Span
from nautilus.types import Word

TOLERANCE: Final = 0.5
"""Seconds by which two models' times of the same word may differ."""


def join(before: Sequence[Word], after: Sequence[Word], seam: Span) -> list[Word]:
    """Merge the words of two windows that both heard `seam`, each word once; all times are recording times.

    The longest run of words that both windows agree on inside the seam decides: up to its middle the
    earlier window is right, whose context lies before, then the later one. Without any agreement
    the seam's middle decides.
    """
    first, second, length = _agreement(before, after, seam)
    if length:
        half = (length + 1) // 2
        return [*before[: first + half], *after[second + half :]]
    middle = (seam.start + seam.end) / 2
    kept = [word for word in before if _middle(word) < middle]
    heard = kept[-1].end if kept else seam.start
    return [*kept, *(word for word in after if _middle(word) >= middle or (word.end > middle and word.start >= heard))]


def _agreement(before: Sequence[Word], after: Sequence[Word], seam: Span) -> tuple[int, int, int]:
    """Find where the longest common run starts in both, and its length (0 where there is none)."""
    best = (0, 0, 0)
    runs: dict[tuple[int, int], int] = {}
    for i in _inside(before, seam):
        for j in _inside(after, seam):
            if _same(before[i], after[j]):
                length = runs[i, j] = runs.get((i - 1, j - 1), 0) + 1
                if length > best[2]:
                    best = (i - length + 1, j - length + 1, length)
    return best


def _inside(words: Sequence[Word], seam: Span) -> list[int]:
    """List the words that touch the seam, give or take the tolerance, by index."""
    return [
        index
        for index, word in enumerate(words)
        if word.end > seam.start - TOLERANCE and word.start < seam.end + TOLERANCE
    ]


def _same(one: Word, other: Word) -> bool:
    return _plain(one.text) == _plain(other.text) and abs(_middle(one) - _middle(other)) <= TOLERANCE


def _plain(text: str) -> str:
    """Strip case and punctuation (unless that is all there is)."""
    folded = text.casefold()
    return "".join(letter for letter in folded if letter.isalnum()) or folded


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2
