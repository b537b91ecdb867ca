"""Keyword boosting for transducers: words that the caller expects take the place of what sounded almost like them.

A greedy search decides for or against the blank before anything could be boosted (so does NeMo's label-looping search
with a boosting tree), so a sub-word that lost against the blank never comes back. Here the greedy words are heard
first. Then each of them, with up to `SPAN - 1` that follow, is heard anew: the network is led through the keywords'
sub-words, in all their spellings, from the state that it was in before the word, over the frames between the words
around it. A keyword takes the place of the words where its best alignment beats theirs with its boost. No alignment
becomes more likely as it goes on, so most keywords end at their first sub-word, before the network is asked.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

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
from nautilus.engines.lattice import Answer, Floats, Network, Place, Step, begun, extended
from nautilus.engines.spelling import Arc, fewest, spellings_of
from nautilus.engines.words import WORD_START, TimedPiece

SPAN: Final = 3
"""Greedy words that one keyword may replace."""
MARGIN: Final = 8
"""Encoder frames before and after what was heard in which a keyword may be said."""
BREADTH: Final = 24
"""Beginnings of keywords that are followed from one word, the best ones; only noise has so many."""
AT_ONCE: Final = 32
"""Beginnings that the network is asked about in one call."""


class KeywordTree:
    """Keywords in all their spellings, as a prefix tree of sub-words. Immutable; build it once and keep it."""

    def __init__(self, keywords: Sequence[str], vocabulary: CtcVocabulary, limits: KeywordLimits | None = None) -> None:
        self.vocabulary = vocabulary
        self.limits = limits or KeywordLimits()
        check_keywords(keywords, self.limits)
        self.leaving: dict[str, list[Arc]] = {}
        """The arcs that lead on from each prefix."""
        self.boosts: dict[str, float] = {}
        """Of whole keywords."""
        self.hopes: dict[str, float] = {}
        """The highest boost of the keywords that begin with a prefix."""
        for arcs in spellings_of(keywords, vocabulary).values():
            boost = self.limits.boost * fewest(arcs) if arcs else 0.0
            for arc in arcs:
                if arc not in self.leaving.setdefault(arc.source, []):
                    self.leaving[arc.source].append(arc)
                self.hopes[arc.target] = max(boost, self.hopes.get(arc.target, 0.0))
            if arcs:
                self.boosts[arcs[-1].target] = boost

    def __len__(self) -> int:
        return len(self.boosts)

    def __repr__(self) -> str:
        return f"<KeywordTree: {len(self)} keywords, {len(self.hopes)} beginnings>"


class Hearing:
    """One waveform's encoding, shape (frames, width), and what a greedy search heard in it."""

    def __init__(self, encoding: Floats, pieces: Sequence[TimedPiece], tokens: Sequence[int], network: Network) -> None:
        self._encoding = encoding
        self._pieces = pieces
        self._tokens = tokens
        self._network = network

    def spotted(self, tree: KeywordTree) -> list[Spotted]:
        """Find keywords that beat what was heard, the best first."""
        second = tree.vocabulary.frame_seconds
        words = heard_words(self._pieces, second)
        if not words:
            return []
        starts = [round(piece.start / second) for piece in self._pieces]
        places = [self._place(number, words, starts) for number in range(len(words))]
        roots = self._roots(places, tree.vocabulary.blank)
        heard = self._heard(roots, words)
        found = [
            (rank, one)
            for step in self._search(roots, heard, tree)
            for rank, one in self._won(step, heard, words, tree)
        ]
        return [one for _, one in sorted(found, key=lambda pair: -pair[0])]

    def _place(self, number: int, words: Sequence[Heard], starts: Sequence[int]) -> Place:
        first = words[number].first
        before = starts[first - 1] + bool(self._network.durations) if first else 0
        start = max(min(before, starts[first]), starts[first] - MARGIN)
        ends = []
        for word in words[number : number + SPAN]:
            after = starts[word.last] if word.last < len(starts) else len(self._encoding)
            ends.append(min(after, starts[word.last - 1] + MARGIN) - start)
        return Place(number, first, start, tuple(ends))

    def _roots(self, places: Sequence[Place], blank: int) -> list[Step]:
        """Bring the network to where it was before each word."""
        said = [blank, *self._tokens]
        state = self._network.start(1)
        states = [state]
        for token in said[: places[-1].first]:
            *_, state = self._network.say(self._encoding[None, :1], np.array([token]), state)
            states.append(state)
        before = [states[place.first][:, :, 0] for place in places]
        answers = self._ask(places, [said[place.first] for place in places], before)
        return [begun(place, answer, self._network.durations) for place, answer in zip(places, answers, strict=True)]

    def _ask(self, places: Sequence[Place], tokens: Sequence[int], states: Sequence[Floats]) -> list[Answer]:
        """Say tokens at places; what is heard at their positions afterwards."""
        answers = []
        for first in range(0, len(places), AT_ONCE):
            part = places[first : first + AT_ONCE]
            reach = np.arange(max(place.ends[-1] for place in part) + 1)
            frames = np.minimum([place.start + reach for place in part], len(self._encoding) - 1)
            labels, lasting, after = self._network.say(
                self._encoding[frames],
                np.array(tokens[first : first + AT_ONCE]),
                np.stack(states[first : first + AT_ONCE], axis=2),
            )
            for row, place in enumerate(part):
                positions = place.ends[-1] + 1
                answers.append((labels[row, :positions], lasting[row, :positions], after[:, :, row]))
        return answers

    def _heard(self, roots: Sequence[Step], words: Sequence[Heard]) -> list[Floats]:
        """Score what was heard: for each place, its one, two, … words at their ends."""
        scores = [np.zeros(len(root.place.ends), np.float32) for root in roots]
        steps = list(roots)
        for depth in range(
            max(words[root.place.word + len(root.place.ends) - 1].last - root.place.first for root in roots)
        ):
            going = [
                step
                for step in steps
                if step.place.first + depth < words[step.place.word + len(step.place.ends) - 1].last
            ]
            steps = self._extend([(step, self._tokens[step.place.first + depth], "") for step in going])
            for step in steps:
                for count, end in enumerate(step.place.ends):
                    if words[step.place.word + count].last == step.place.first + depth + 1:
                        scores[step.place.word][count] = step.scores[end]
        return scores

    def _search(self, roots: Sequence[Step], heard: Sequence[Floats], tree: KeywordTree) -> Iterator[Step]:
        """Yield the ends of keywords that may beat what was heard."""
        steps = list(roots)
        while steps:
            wanted: dict[int, list[tuple[float, Step, Arc]]] = {}
            for step in steps:
                for arc in tree.leaving.get(step.prefix, ()):
                    hope = self._hope(step, arc.token, heard[step.place.word]) + tree.hopes[arc.target]
                    if hope > 0:
                        wanted.setdefault(step.place.word, []).append((hope, step, arc))
            best = [
                (step, arc.token, arc.target)
                for found in wanted.values()
                for _, step, arc in sorted(found, key=lambda one: -one[0])[:BREADTH]
            ]
            steps = self._extend(best)
            yield from (step for step in steps if step.prefix in tree.boosts)

    def _hope(self, step: Step, token: int, heard: Floats) -> float:
        """Return by how much a further token may still beat what was heard, without a boost."""
        reached = np.maximum.accumulate(step.scores + step.labels[:, token])
        return float((reached[list(step.place.ends)] - heard).max())

    def _extend(self, wanted: Sequence[tuple[Step, int, str]]) -> list[Step]:
        """Say one more token each."""
        places, tokens = [step.place for step, *_ in wanted], [token for _, token, _ in wanted]
        answers = self._ask(places, tokens, [step.state for step, *_ in wanted])
        return [
            extended(step, token, prefix, answer, self._network.durations, len(self._encoding))
            for (step, token, prefix), answer in zip(wanted, answers, strict=True)
        ]

    def _won(
        self, step: Step, heard: Sequence[Floats], words: Sequence[Heard], tree: KeywordTree
    ) -> Iterator[tuple[float, Spotted]]:
        """Yield what a keyword may replace, and how much better it is with a boost for each of its words."""
        boost = tree.boosts[step.prefix]
        for count, end in enumerate(step.place.ends):
            margin = float(step.scores[end] - heard[step.place.word][count])
            if margin + boost <= 0:
                continue
            covered = words[step.place.word : step.place.word + count + 1]
            first, last = covered[0].first, covered[-1].last
            pieces = self._traced(step, end, tree.vocabulary)
            rank = margin + tree.limits.boost * step.prefix.count(WORD_START)
            if text_of(pieces) == text_of(self._pieces[first:last]):
                kept = tuple(self._pieces[first:last])
                yield rank, Spotted(kept, first, last, covered[0].start, covered[-1].end, changes=False)
            elif is_likely(pieces, tree.limits.floor) and fits(pieces, self._pieces[:first], self._pieces[last:]):
                yield rank, Spotted(pieces, first, last, covered[0].start, covered[-1].end, changes=True)

    def _traced(self, step: Step, end: int, vocabulary: CtcVocabulary) -> tuple[TimedPiece, ...]:
        """Return the pieces of the best alignment that is at position `end`."""
        second, pieces = vocabulary.frame_seconds, []
        while step.parent is not None:
            said, until = int(step.said[end]), int(step.until[end])
            start = step.place.start + said
            last = step.place.start + max(said + 1, until)
            pieces.append(
                TimedPiece(vocabulary.pieces[step.token], float(step.sure[said]), start * second, last * second)
            )
            step, end = step.parent, said
        return tuple(reversed(pieces))


def respelled(hearing: Hearing, pieces: Sequence[TimedPiece], tree: KeywordTree) -> list[TimedPiece]:
    """Return the greedy pieces with keywords in place of words they beat.

    A keyword replaces whole words and never comes where none was heard. Times stay monotonic.
    """
    return with_keywords(pieces, hearing.spotted(tree) if len(tree) else (), tree.limits.most)
