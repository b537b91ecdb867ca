"""Frame-wise labels from forced alignments, for the first steps of training."""

import numpy as np
import numpy.typing as npt
from recipes.embedded.corpus import Word

SECONDS_PER_FRAME = 0.08
"""One encoder frame: eight feature frames of 10 ms."""
UNGUIDED = -100
"""The label of frames that cross-entropy ignores."""


def frame_labels(words: list[Word], pieces: list[list[int]], frames: int, blank: int) -> npt.NDArray[np.int64]:
    """Labels of shape [frames]: each word's sub-words spread evenly over its time, blank elsewhere."""
    labels = np.full(frames, blank, np.int64)
    for word, ids in zip(words, pieces, strict=True):
        first = round(word.start / SECONDS_PER_FRAME)
        last = max(round(word.end / SECONDS_PER_FRAME), first + 1)
        for frame in range(first, min(last, frames)):
            labels[frame] = ids[(frame - first) * len(ids) // (last - first)]
    return labels


def entropy(labels: npt.NDArray[np.int64]) -> float:
    """Entropy in nats of the labels' distribution: what a model that hears nothing reaches."""
    counts = np.unique(labels[labels != UNGUIDED], return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())
