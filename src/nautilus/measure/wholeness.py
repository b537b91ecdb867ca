"""What hearing a long recording costs: its words and times against those of its utterances, heard one by one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from nautilus.types import SAMPLE_RATE, Waveform, Word

FAINT = 1e-4
"""Level of the noise that fills pauses (-80 dB): no recording has silence of zeros."""


@dataclass(frozen=True, slots=True)
class Part:
    """One utterance of a long recording."""

    text: str
    """What is said."""
    start: float
    """Seconds of the recording at which it starts."""
    words: tuple[Word, ...]
    """What was heard of it alone, in its own time."""


@dataclass(frozen=True, slots=True)
class Wholeness:
    """A long recording against its parts."""

    words: int
    """In the reference."""
    errors_alone: int
    errors_whole: int
    changed: int
    """Words that were heard otherwise than alone, or not at all, or that were not heard alone."""
    shifts: tuple[float, ...]
    """Of the words that were heard both ways: how far starts and ends differ, in seconds."""
    backwards: int
    """Words that start before the one before them, or end before they start."""

    @property
    def loss(self) -> float:
        """Return the points of word error rate that the whole has more than its parts."""
        return 100 * (self.errors_whole - self.errors_alone) / max(1, self.words)

    def shifted(self, beyond: float) -> float:
        """Return the share of times that differ by more than so many seconds."""
        return float(np.mean(np.array(self.shifts) > beyond)) if self.shifts else 0.0


def joined(utterances: Sequence[Waveform], pauses: Sequence[float]) -> tuple[Waveform, list[float]]:
    """Join utterances, with pauses of these lengths in turn behind them; also returns where each starts."""
    rng = np.random.default_rng(0)
    parts: list[Waveform] = []
    starts: list[float] = []
    place = 0
    for number, utterance in enumerate(utterances):
        starts.append(place / SAMPLE_RATE)
        pause = rng.standard_normal(round(pauses[number % len(pauses)] * SAMPLE_RATE))
        parts += [utterance, (FAINT * pause).astype(np.float32)]
        place += len(utterance) + len(pause)
    return np.concatenate(parts), starts


def compare(parts: Sequence[Part], whole: Sequence[Word]) -> Wholeness:
    """Compare what was heard of a whole recording with what was heard of its parts."""
    from jiwer import process_words

    alone = [_moved(word, part.start) for part in parts for word in part.words]
    said = " ".join(part.text.lower() for part in parts)
    heard_alone, heard_whole = _text(alone), _text(whole)
    by_parts, by_whole = process_words(said, heard_alone), process_words(said, heard_whole)
    both = process_words(heard_alone, heard_whole)
    shifts: list[float] = []
    for chunk in both.alignments[0]:
        if chunk.type == "equal":
            pairs = zip(
                alone[chunk.ref_start_idx : chunk.ref_end_idx],
                whole[chunk.hyp_start_idx : chunk.hyp_end_idx],
                strict=True,
            )
            shifts += [shift for one, other in pairs for shift in _shifts(one, other)]
    backwards = sum(other.start < one.start for one, other in pairwise(whole)) + sum(w.end < w.start for w in whole)
    return Wholeness(
        words=len(said.split()),
        errors_alone=by_parts.substitutions + by_parts.insertions + by_parts.deletions,
        errors_whole=by_whole.substitutions + by_whole.insertions + by_whole.deletions,
        changed=both.substitutions + both.insertions + both.deletions,
        shifts=tuple(shifts),
        backwards=backwards,
    )


def _moved(word: Word, seconds: float) -> Word:
    return replace(word, start=word.start + seconds, end=word.end + seconds)


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text.lower() for word in words)


def _shifts(one: Word, other: Word) -> tuple[float, float]:
    return abs(one.start - other.start), abs(one.end - other.end)
