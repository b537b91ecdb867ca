"""What a greedy search heard, word by word, and keywords for it: what CTC models and transducers have in common."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nautilus.engines.words import CLOSING, WORD_START, TimedPiece
from nautilus.errors import BadRequestError
from nautilus.types import MAX_KEYWORD_CHARACTERS, MAX_KEYWORDS

KEPT_GRAPHS: Final = 64
"""Lists of keywords that an engine keeps prepared."""


@dataclass(frozen=True, slots=True)
class KeywordLimits:
    """How far keywords may go. Likelihoods are natural logarithms."""

    boost: float = 2.0
    """How much less likely than what it replaces a keyword may be, for each sub-word of its shortest spelling."""
    floor: float = -2.0
    """Mean log-probability of its sub-words, without boost, that a keyword needs."""
    most: int = 16
    """Replacements in one window."""
    keywords: int = MAX_KEYWORDS
    characters: int = MAX_KEYWORD_CHARACTERS
    """Of one keyword."""


class Heard(NamedTuple):
    """A word of the greedy path without the punctuation after it: pieces [first, last), frames [start, end)."""

    first: int
    last: int
    start: int
    end: int


class Spotted(NamedTuple):
    """A keyword for greedy pieces [first, last), frames [start, end)."""

    pieces: tuple[TimedPiece, ...]
    first: int
    last: int
    start: int
    end: int
    changes: bool
    """Whether other words were heard."""


def check_keywords(keywords: Sequence[str], limits: KeywordLimits) -> None:
    """Raise BadRequestError for too many, or too long ones."""
    if len(keywords) > limits.keywords:
        raise BadRequestError(f"{len(keywords)} keywords are too many; send at most {limits.keywords}.", "keywords")
    if max(map(len, keywords), default=0) > limits.characters:
        raise BadRequestError(f"A keyword may have {limits.characters} characters; shorten the longest.", "keywords")


def heard_words(greedy: Sequence[TimedPiece], second: float) -> list[Heard]:
    """Group pieces into words; `second` is the length of an encoder frame."""
    words: list[Heard] = []
    for index, piece in enumerate(greedy):
        start, end = round(piece.start / second), round(piece.end / second)
        if CLOSING.issuperset(piece.piece):
            continue
        if not words or piece.piece.startswith((WORD_START, " ")):
            words.append(Heard(index, index + 1, start, end))
        else:
            words[-1] = words[-1]._replace(last=index + 1, end=end)
    return words


def with_keywords(greedy: Sequence[TimedPiece], candidates: Iterable[Spotted], most: int) -> list[TimedPiece]:
    """Put keywords, the best first, in the place of what was heard; at most so many."""
    pieces: list[TimedPiece] = []
    position = 0
    for spotted in _chosen(candidates, most):
        pieces += [*greedy[position : spotted.first], *spotted.pieces]
        position = spotted.last
    return [*pieces, *greedy[position:]]


def text_of(pieces: Sequence[TimedPiece]) -> str:
    """Join pieces without punctuation, `▁` before each word."""
    return "".join(one.piece for one in pieces if not CLOSING.issuperset(one.piece)).replace(" ", WORD_START)


def is_likely(pieces: Sequence[TimedPiece], floor: float) -> bool:
    """Whether the mean log-probability of pieces is high enough."""
    return sum(one.logprob for one in pieces) >= floor * len(pieces)


def fits(pieces: Sequence[TimedPiece], before: Sequence[TimedPiece], after: Sequence[TimedPiece]) -> bool:
    """Whether no punctuation between words is in the way."""
    starts_late = not before or before[-1].end <= pieces[0].start
    return starts_late and (not after or pieces[-1].end <= after[0].start)


def _chosen(candidates: Iterable[Spotted], most: int) -> list[Spotted]:
    """Take the first of those that share frames, until so many change something; in the order of time."""
    chosen: list[Spotted] = []
    for one in candidates:
        if not most:
            break
        if all(one.end <= other.start or other.end <= one.start for other in chosen):
            chosen.append(one)
            most -= one.changes
    return sorted(chosen, key=lambda one: one.first)
