"""Sub-words with times → words. SentencePiece marks the start of a word with `▁` (U+2581).

A CTC model emits a sub-word when it is sure of it, not when it is said: one that may look ahead little, or was trained
on delayed labels, is late by the same fifth of a second everywhere. What was measured of a model is in its bundle's
manifest, as its `Calibration`; of others nothing is known, and their words have the times of their frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import exp, log
from typing import Final

from nautilus.types import Hypothesis, Token, Word

WORD_START: Final = "\u2581"

CLOSING: Final = frozenset(".,?!;:%)]}…»”。、\uff0c\uff1f\uff01؟،؛।")
"""What is written behind a word without a space, even where the model puts one."""

ENDS: Final = frozenset(("<EOU>", "<EOB>"))
"""Tokens by which a model says that an utterance is over, or was a mere "yes" in between: no words."""

LEAST: Final = 0.01
"""Seconds that a sub-word lasts at least, also at the very end."""


SHORTEST_WORD: Final = 0.04
"""Seconds that a word keeps at least where words are moved towards the start of their waveform."""


TINY: Final = 1e-6
"""No probability is closer to 0 or 1: keeps log-odds finite."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured of a model, by `benchmarks/word_times.py` and `benchmarks/confidence.py`."""

    delay: float = 0.0
    """Seconds by which words are emitted after they start."""
    tail: float = 0.0
    """Seconds by which words go on after their last sub-word was emitted, unless the next one starts."""
    slope: float = 1.0
    """What the log-odds of a word's probability are multiplied by to become its confidence (Platt 1999) …"""
    offset: float = 0.0
    """… and what is added to them."""


UNCALIBRATED: Final = Calibration()


@dataclass(frozen=True, slots=True)
class TimedPiece:
    """A sub-word and where it was heard, in seconds of its window."""

    piece: str
    """As in the vocabulary: `▁` or a space in front starts a word."""
    logprob: float
    start: float
    end: float


def hypothesis_of(
    pieces: Sequence[TimedPiece], language: str | None, seconds: float, calibration: Calibration = UNCALIBRATED
) -> Hypothesis:
    """Join the pieces of a waveform that lasts so long; its text is its words, joined by spaces."""
    words = words_of([_until(piece, seconds) for piece in pieces if not is_end(piece)])
    if calibration is not UNCALIBRATED:
        words = calibrated(words, seconds, calibration)
    return Hypothesis(" ".join(word.text for word in words), words, language)


def is_end(piece: TimedPiece) -> bool:
    """Whether it is no part of a word, but says that the utterance is over."""
    return piece.piece.strip(f"{WORD_START} ") in ENDS


def words_of(pieces: Sequence[TimedPiece]) -> tuple[Word, ...]:
    """Join pieces into words. Punctuation joins the word before it, and does not make it last longer.

    Models write a full stop when they are sure that the sentence is over, which may be seconds after its last word.
    """
    groups: list[list[TimedPiece]] = []
    for piece in pieces:
        if not groups or piece.piece.startswith((WORD_START, " ")):
            groups.append([piece])
        else:
            groups[-1].append(piece)
    words: list[Word] = []
    for group in groups:
        text = _text(group)
        if words and text and CLOSING.issuperset(text):
            tokens = (*words[-1].tokens, *_tokens(group))
            words[-1] = replace(words[-1], text=words[-1].text + text, tokens=tokens)
        elif text:
            words.append(_word(text, group))
    return tuple(words)


def calibrated(words: Sequence[Word], seconds: float, calibration: Calibration) -> tuple[Word, ...]:
    """Move words to where they were said, never past a neighbour or the ends of their waveform of so many seconds.

    Their confidence becomes the share of such words that are right.
    """
    starts: list[float] = []
    for word in words:
        earliest = min(word.start, starts[-1] + SHORTEST_WORD) if starts else 0.0
        starts.append(max(earliest, word.start - calibration.delay))
    ends = [*starts[1:], seconds]
    return tuple(
        replace(
            word,
            start=start,
            end=max(start, min(word.end + calibration.tail, end)),
            confidence=_chance(word.confidence, calibration),
        )
        for word, start, end in zip(words, starts, ends, strict=False)
    )


def spread_words(text: str, seconds: float, logprob: float) -> tuple[Word, ...]:
    """Give times to the words of a model that has none: as if all letters took equally long, from start to end.

    An estimate, good enough to know which words two overlapping windows share. `logprob` is each word's.
    """
    texts = text.split()
    letters = list(accumulate((len(word) + 1 for word in texts), initial=0))
    second = seconds / max(1, letters[-1])
    return tuple(
        Word(word, start * second, min(seconds, end * second), exp(min(0.0, logprob)))
        for word, (start, end) in zip(texts, pairwise(letters), strict=True)
    )


def _word(text: str, group: Sequence[TimedPiece]) -> Word:
    spoken = [piece for piece in group if not CLOSING.issuperset(piece.piece)] or group
    logprob = sum(piece.logprob for piece in spoken)
    return Word(text, group[0].start, max(piece.end for piece in spoken), exp(min(0.0, logprob)), _tokens(group))


def _text(group: Sequence[TimedPiece]) -> str:
    return "".join(piece.piece for piece in group).replace(WORD_START, " ").strip()


def _tokens(group: Sequence[TimedPiece]) -> tuple[Token, ...]:
    return tuple(Token(piece.piece.replace(WORD_START, " "), piece.logprob) for piece in group)


def _chance(probability: float, calibration: Calibration) -> float:
    held = min(max(probability, TINY), 1 - TINY)
    odds = calibration.slope * log(held / (1 - held)) + calibration.offset
    return 1 / (1 + exp(-odds))


def _until(piece: TimedPiece, seconds: float) -> TimedPiece:
    """Cut a piece where its waveform ends: the last encoder frame may reach beyond it, or even start there."""
    if piece.end <= seconds:
        return piece
    return TimedPiece(piece.piece, piece.logprob, max(0.0, min(piece.start, seconds - LEAST)), seconds)
