"""The lattice of a transducer over a few frames: the best alignments of a sequence of tokens, one token after another.

Source: Graves, Sequence Transduction with Recurrent Neural Networks (2012); of a TDT, in which tokens and blanks have
durations, Xu et al. (ICML 2023). Here with the best alignment in place of the sum over all (Viterbi).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.intp]

Answer: TypeAlias = tuple[Floats, Floats, Floats]
"""What a network says of a place: log-probabilities of tokens and of durations, and its state."""

NEVER: Final = np.float32(-1e9)


class Network(Protocol):
    """The prediction and joint networks of a transducer."""

    @property
    def durations(self) -> tuple[int, ...]:
        """Encoder frames that a TDT's token may last; empty for an RNN-T."""
        ...

    def start(self, count: int, /) -> Floats:
        """Return the states of so many that have said nothing, shape (parts, layers, items, width)."""
        ...

    def say(self, frames: Floats, tokens: Indices, states: Floats, /) -> tuple[Floats, Floats, Floats]:
        """Say a token each, and listen: log-probabilities of tokens and durations in each frame, and the new states.

        `frames` has shape (items, frames, width), the answers (items, frames, tokens or durations). The first token
        that is said is the blank.
        """
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a greedy word was heard, and what else may be heard there: positions count from `start`."""

    word: int
    first: int
    """Its first piece, which is also the number of tokens said before."""
    start: int
    """The frame of position 0."""
    ends: tuple[int, ...]
    """The position at which the word after one, two, … words begins."""


@dataclass(frozen=True, slots=True)
class Step:
    """The best alignments of a sequence of tokens up to each position, shape (positions,)."""

    place: Place
    parent: "Step | None"
    prefix: str
    token: int
    scores: Floats
    """Of the best alignment that has said all tokens."""
    said: Indices
    """Where it said the last one."""
    until: Indices
    """Where it went on after it."""
    sure: Floats
    """Log-probability of the last token where it may have been said."""
    labels: Floats
    """Log-probabilities of what comes next, shape (positions, tokens)."""
    lasting: Floats
    """Log-probabilities of how long that lasts, shape (positions, durations)."""
    state: Floats


def begun(place: Place, answer: Answer, durations: tuple[int, ...]) -> Step:
    """Wait for the first token, from a position on where nothing was said yet."""
    labels, lasting, state = answer
    scores = np.full(len(labels), NEVER, np.float32)
    scores[0] = 0.0
    said, until = np.zeros(scores.shape, np.intp), np.zeros(scores.shape, np.intp)
    _wait(scores, said, until, _moves(durations, labels[:, -1], lasting, 1))
    return Step(place, None, "", -1, scores, said, until, scores, labels, lasting, state)


def extended(before: Step, token: int, prefix: str, answer: Answer, durations: tuple[int, ...], frames: int) -> Step:
    """Say one more token, at any position of the waveform's frames, and wait."""
    labels, lasting, state = answer
    sure = before.labels[:, token]
    scores = np.full(len(labels), NEVER, np.float32)
    said, until = np.zeros(scores.shape, np.intp), np.zeros(scores.shape, np.intp)
    positions = np.arange(len(labels))
    entry = np.where(before.place.start + positions < frames, before.scores + sure, NEVER)
    for duration, weights in _moves(durations, entry, before.lasting, 0):
        reach = len(positions) - duration
        better = np.flatnonzero(weights[:reach] > scores[duration:])
        scores[better + duration] = weights[better]
        said[better + duration] = better
        until[better + duration] = better + duration
    _wait(scores, said, until, _moves(durations, labels[:, -1], lasting, 1))
    return Step(before.place, before, prefix, token, scores, said, until, sure, labels, lasting, state)


def _moves(durations: tuple[int, ...], weights: Floats, lasting: Floats, least: int) -> list[tuple[int, Floats]]:
    """Return how far one may go, at least `least`, and the log-probability of it at each position."""
    if not durations:
        return [(least, weights)]
    return [
        (duration, weights + lasting[..., column])
        for column, duration in enumerate(durations)
        if least <= duration < weights.shape[-1]
    ]


def _wait(scores: Floats, said: Indices, until: Indices, moves: Sequence[tuple[int, Floats]]) -> None:
    """Let alignments go on over blanks where that is more likely, in place; all have shape (positions,)."""
    for position in range(1, len(scores)):
        for duration, weights in moves:
            source = position - duration
            if source >= 0 and (waited := scores[source] + weights[source]) > scores[position]:
                scores[position], said[position], until[position] = waited, said[source], until[source]
