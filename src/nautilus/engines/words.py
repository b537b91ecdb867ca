"""Sub-words with times → words. SentencePiece marks the start of a word with `▁` (U+2581)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from nautilus.types import Token, Word

WORD_START = "\u2581"


@dataclass(frozen=True, slots=True)
class TimedPiece:
    """A sub-word and where it was heard, in seconds of its window."""

    piece: str
    """As in the vocabulary: `▁` or a space in front starts a word."""
    logprob: float
    start: float
    end: float


def words_of(pieces: Sequence[TimedPiece]) -> tuple[Word, ...]:
    """Join pieces into words; punctuation stays with the word before it."""
    groups: list[list[TimedPiece]] = []
    for piece in pieces:
        if not groups or _starts_word(piece.piece):
            groups.append([piece])
        else:
            groups[-1].append(piece)
    words = (_word(group) for group in groups)
    return tuple(word for word in words if word.text)


def _starts_word(piece: str) -> bool:
    return piece.startswith((WORD_START, " "))


def _word(group: Sequence[TimedPiece]) -> Word:
    text = "".join(piece.piece for piece in group).replace(WORD_START, " ").strip()
    tokens = tuple(Token(piece.piece.replace(WORD_START, " "), piece.logprob) for piece in group)
    confidence = exp(min(0.0, sum(token.logprob for token in tokens) / len(tokens)))
    return Word(text, group[0].start, max(piece.end for piece in group), confidence, tokens)
