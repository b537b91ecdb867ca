"""Greedy CTC decoding of a batch: the best token of each frame, repeats merged, blanks dropped.

Source: Graves et al., Connectionist Temporal Classification (ICML 2006), best path decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.words import TimedPiece


@dataclass(frozen=True, slots=True)
class CtcVocabulary:
    """What the columns of the log-probabilities mean."""

    pieces: Sequence[str]
    blank: int
    frame_seconds: float
    """Length of one encoder frame."""


def best_path(logprobs: NDArray[np.float32], vocabulary: CtcVocabulary) -> list[TimedPiece]:
    """Decode one item, shape (frames, tokens). A piece lasts as long as its run of frames; its score is its peak's."""
    best = logprobs.argmax(axis=1)
    return pieces_of(best, logprobs[np.arange(len(best)), best], vocabulary)


def pieces_of(best: NDArray[np.intp], scores: NDArray[np.float32], vocabulary: CtcVocabulary) -> list[TimedPiece]:
    """Merge the best token of each frame and its score, both of shape (frames,), into pieces."""
    edges = np.flatnonzero(np.diff(best, prepend=-1, append=-1))
    if len(edges) < 2:  # noqa: PLR2004 - no run without a start and an end
        return []
    starts, ends = edges[:-1], edges[1:]
    spoken = best[starts] != vocabulary.blank
    peaks = np.maximum.reduceat(scores, starts)
    second = vocabulary.frame_seconds
    return [
        TimedPiece(vocabulary.pieces[token], float(peak), float(start * second), float(end * second))
        for token, peak, start, end in zip(
            best[starts][spoken], peaks[spoken], starts[spoken], ends[spoken], strict=True
        )
    ]
