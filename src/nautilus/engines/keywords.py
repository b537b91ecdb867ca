"""Keyword boosting for CTC models: words that the caller expects take the place of what sounded almost like them.

Source: Andrusenko et al., Fast Context-Biasing for CTC and Transducer ASR models with CTC-based Word Spotter (2024);
NeMo's is in nemo/collections/asr/parts/context_biasing. As there, tokens pass through a prefix graph of the keywords'
sub-words, and a keyword replaces the greedy words under it where it scores better with its boost. Unlike there, scores
are relative to the greedy path, a keyword answers for every frame of the words that it replaces, and a level of the
graph is passed for all frames at once: the best moment to have entered a sub-word is a running maximum.

between words → sub-word ⟲ → (blank ⟲) → sub-word ⟲ → … → between words
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from math import inf
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.heard import (
    Heard,
    KeywordLimits,
    Spotted,
    check_keywords,
    fits,
    heard_words,
    is_likely,
    text_of,
    with_keywords,
)
from nautilus.engines.spelling import fewest, spellings_of
from nautilus.engines.words import WORD_START, TimedPiece

Scores: TypeAlias = NDArray[np.float32]
"""Natural logarithms. Where they have positions, one lies before each frame and one after the last."""
Indices: TypeAlias = NDArray[np.intp]

LEAST: Final = np.float32(-30.0)
"""No token counts as less likely than this, compared with the best of its frame."""
CANDIDATES: Final = 500
"""Keywords that are looked at in one window, the best first; only noise has so many."""


class Level(NamedTuple):
    """The arcs to all prefixes of one length, prefix by prefix."""

    arcs: slice
    sources: Indices
    """The prefix that each arc leaves."""
    columns: Indices
    """Each arc's token, as an index of `KeywordGraph.tokens`."""
    doubled: Sequence[int]
    """Those of the arcs that are in `KeywordGraph.doubled`."""
    prefixes: slice
    starts: Indices
    """The first arc of each prefix."""


class KeywordGraph:
    """Keywords in all their spellings, as a prefix graph of sub-words. Immutable; build it once and keep it."""

    def __init__(self, keywords: Sequence[str], vocabulary: CtcVocabulary, limits: KeywordLimits | None = None) -> None:
        self.vocabulary = vocabulary
        self.limits = limits or KeywordLimits()
        check_keywords(keywords, self.limits)
        spellings = spellings_of(keywords, vocabulary)
        self.unspellable = tuple(keyword for keyword, arcs in spellings.items() if not arcs)
        """Keywords with letters or digits that the vocabulary lacks; they are never heard."""
        lengths = {arcs[-1].target: fewest(arcs) for arcs in spellings.values() if arcs}
        self.boosts = self.limits.boost * np.array([[length] for length in lengths.values()], np.float32)
        self.weights = self.limits.boost * np.array([[text.count(WORD_START)] for text in lengths], np.float32)
        """What decides between keywords: the boost of each word, whatever its length."""
        self.arcs = sorted({arc for arcs in spellings.values() for arc in arcs}, key=lambda arc: (len(arc.target), arc))
        self.tokens = np.array(sorted({arc.token for arc in self.arcs}), np.intp)
        """Columns of the log-probabilities that matter."""
        entering: dict[str, list[int]] = {"": []}
        for row, arc in enumerate(self.arcs):
            entering.setdefault(arc.target, []).append(row)
        numbers = {prefix: number for number, prefix in enumerate(entering)}
        self.entering = list(entering.values())
        """The arcs that lead to each prefix."""
        self.sources = [numbers[arc.source] for arc in self.arcs]
        """The prefix that each arc leaves."""
        self.finals = [entering[text] for text in lengths]
        """The arcs that end each keyword."""
        self.doubled: dict[int, list[int]] = {}
        """The arcs whose sub-word can also end their prefix, and would merge with it: what else can end it."""
        for row, arc in enumerate(self.arcs):
            others = [other for other in entering[arc.source] if self.arcs[other].token != arc.token]
            if len(others) < len(entering[arc.source]):
                self.doubled[row] = others
        self.levels = _levels(self)

    def __len__(self) -> int:
        return len(self.finals)

    def __repr__(self) -> str:
        return f"<KeywordGraph: {len(self)} keywords, {len(self.arcs)} sub-words, {len(self.unspellable)} unspellable>"


class Passage:
    """How well each place of a graph explains the frames of a window, compared with the greedy path.

    A keyword starts and ends between words; where it does so within one, the rest of that word must be blank.
    """

    def __init__(self, logprobs: Scores, words: Sequence[Heard], graph: KeywordGraph) -> None:
        self._graph = graph
        relative = np.maximum(logprobs - logprobs.max(axis=1, keepdims=True), LEAST)
        sums = _cumulated(relative[:, graph.tokens])
        self._pause = relative[:, graph.vocabulary.blank]
        self._blank: Scores = _cumulated(self._pause[:, None])[0]
        left = np.arange(len(self._blank))
        right = left.copy()
        for word in words:
            left[word.start + 1 : word.end] = word.start
            right[word.start + 1 : word.end] = word.end
        self._reached = np.empty((len(graph.entering), len(left)), np.float32)  # (prefixes, positions)
        self._reached[0] = self._blank - self._blank[left]
        self._spoken = np.full((len(graph.arcs), len(left)), -inf, np.float32)  # just after each arc's sub-word
        for level in graph.levels:
            self._pass(level, sums[level.columns])
        ended = np.stack([self._spoken[arcs].max(axis=0) for arcs in graph.finals])
        self.scores = ended + (self._blank[right] - self._blank)
        """Of a keyword that ends at a position, without its boost, shape (keywords, positions)."""

    def path(self, keyword: int, position: int) -> list[tuple[int, int]]:
        """Return arc and frame of every step by which a keyword best ends at a position."""
        row = max(self._graph.finals[keyword], key=lambda arc: self._spoken[arc, position])
        steps: list[tuple[int, int]] = []
        while True:
            position -= 1
            steps.append((row, position))
            source = self._graph.sources[row]
            entries = self._after_others(row) if row in self._graph.doubled else self._reached[source]
            if self._spoken[row, position] >= entries[position]:
                continue
            if not source:
                return steps[::-1]
            before = self._graph.doubled.get(row, self._graph.entering[source])
            row, position = self._last(source, before, position)

    def _last(self, prefix: int, rows: Sequence[int], position: int) -> tuple[int, int]:
        """Go back over blanks to the sub-word that ended a prefix, one of `rows` if there were none."""
        while True:
            row = max(rows, key=lambda row: self._spoken[row, position], default=None)
            waited = self._reached[prefix, position - 1] + self._pause[position - 1]
            if row is not None and self._spoken[row, position] >= waited:
                return row, position
            position -= 1
            rows = self._graph.entering[prefix]

    def _after_others(self, row: int) -> Scores:
        """Before a doubled sub-word: after a blank or another sub-word, shape (positions,)."""
        entries: Scores = self._spoken[self._graph.doubled[row]].max(axis=0, initial=-inf)
        waited = self._reached[self._graph.sources[row], :-1] + self._pause
        np.maximum(entries[1:], waited, out=entries[1:])
        return entries

    def _pass(self, level: Level, sums: Scores) -> None:
        """Speak each arc's sub-word from its best moment on, then wait; `sums` cumulate the arcs' tokens."""
        entered = self._reached[level.sources, :-1]
        for row in level.doubled:
            entered[row - level.arcs.start] = self._after_others(row)[:-1]
        entered -= sums[:, :-1]
        np.maximum.accumulate(entered, axis=1, out=entered)
        np.add(entered, sums[:, 1:], out=self._spoken[level.arcs, 1:])
        waiting = np.maximum.reduceat(self._spoken[level.arcs], level.starts, axis=0)
        waiting -= self._blank
        np.maximum.accumulate(waiting, axis=1, out=waiting)
        np.add(waiting, self._blank, out=self._reached[level.prefixes])


def boosted(logprobs: Scores, greedy: Sequence[TimedPiece], graph: KeywordGraph) -> list[TimedPiece]:
    """Return the greedy pieces with keywords in place of words they beat; `logprobs` has shape (frames, tokens).

    A keyword replaces whole words and never comes where none was heard. Times stay monotonic.
    """
    words = heard_words(greedy, graph.vocabulary.frame_seconds) if len(graph) else []
    candidates = _spotted(logprobs, words, greedy, graph) if words else ()
    return with_keywords(greedy, candidates, graph.limits.most)


def _levels(graph: KeywordGraph) -> list[Level]:
    columns = np.searchsorted(graph.tokens, [arc.token for arc in graph.arcs])
    levels: list[Level] = []
    arc, prefix = 0, 1
    for _, group in groupby(graph.entering[1:], key=lambda rows: len(graph.arcs[rows[0]].target)):
        entering = list(group)
        arcs = slice(arc, arc := entering[-1][-1] + 1)
        levels.append(
            Level(
                arcs,
                np.array(graph.sources[arcs]),
                columns[arcs],
                [row for row in graph.doubled if arcs.start <= row < arcs.stop],
                slice(prefix, prefix := prefix + len(entering)),
                np.array([rows[0] - arcs.start for rows in entering]),
            )
        )
    return levels


def _cumulated(columns: Scores) -> Scores:
    """Sum up each column from the first frame to each position, shape (columns, positions)."""
    sums = np.zeros((columns.shape[1], len(columns) + 1), np.float32)
    np.cumsum(columns.T, axis=1, out=sums[:, 1:])
    return sums


def _spotted(
    logprobs: Scores, words: Sequence[Heard], greedy: Sequence[TimedPiece], graph: KeywordGraph
) -> Iterator[Spotted]:
    """Find keywords that beat what was heard, the best first; one at most for each keyword and last word."""
    passage = Passage(logprobs, words, graph)
    keywords, positions = np.nonzero(passage.scores + graph.boosts > 0)
    order = np.argsort(-(passage.scores + graph.weights)[keywords, positions], kind="stable")
    keywords, positions = keywords[order], positions[order]
    begun = np.searchsorted([word.start for word in words], positions)
    _, firsts = np.unique(keywords * (len(words) + 1) + begun, return_index=True)
    for index in np.sort(firsts)[:CANDIDATES].tolist():
        steps = passage.path(int(keywords[index]), int(positions[index]))
        covered = [word for word in words[: begun[index]] if word.end > steps[0][1]]
        if covered:
            first, last = covered[0].first, covered[-1].last
            start, end = min(steps[0][1], covered[0].start), max(steps[-1][1] + 1, covered[-1].end)
            pieces = tuple(_pieces(steps, logprobs, graph))
            if text_of(pieces) == text_of(greedy[first:last]):
                yield Spotted(tuple(greedy[first:last]), first, last, start, end, changes=False)
            elif is_likely(pieces, graph.limits.floor) and fits(pieces, greedy[:first], greedy[last:]):
                yield Spotted(pieces, first, last, start, end, changes=True)


def _pieces(steps: Iterable[tuple[int, int]], logprobs: Scores, graph: KeywordGraph) -> Iterator[TimedPiece]:
    second = graph.vocabulary.frame_seconds
    for row, run in groupby(steps, key=lambda step: step[0]):
        token, frames = graph.arcs[row].token, [frame for _, frame in run]
        peak = float(logprobs[frames, token].max())
        yield TimedPiece(graph.vocabulary.pieces[token], peak, frames[0] * second, (frames[-1] + 1) * second)
