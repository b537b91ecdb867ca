"""A network that is a table, for what must hold exactly; trained ones are in `test_transducer`."""

from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
import pytest

from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.heard import KeywordLimits
from nautilus.engines.lattice import Floats, Indices
from nautilus.engines.transducer_keywords import Hearing, KeywordTree, respelled
from nautilus.engines.words import TimedPiece, words_of
from nautilus.errors import BadRequestError

PIECES = ("▁y", "or", "k", "p", "▁york", "▁new", "▁you", "▁a", ".", "l")
BLANK = len(PIECES)
VOCABULARY = CtcVocabulary(PIECES, BLANK, 0.08)
Frame = dict[str, float]


@dataclass(frozen=True, slots=True)
class Script:
    """An RNN-T that says one piece in each frame that names some, and only if it said all before."""

    frames: tuple[Frame, ...]
    durations: tuple[int, ...] = ()

    def start(self, count: int, /) -> Floats:
        return np.full((1, 1, count, 1), -1.0, np.float32)

    def say(self, frames: Floats, tokens: Indices, states: Floats, /) -> tuple[Floats, Floats, Floats]:
        after = states + 1
        labels = np.full((len(tokens), frames.shape[1], BLANK + 1), 1e-6)
        for row, places in enumerate(frames[:, :, 0].astype(int)):
            for column, place in enumerate(places):
                if after[0, 0, row, 0] == sum(map(bool, self.frames[:place])):
                    for piece, probability in self.frames[place].items():
                        labels[row, column, PIECES.index(piece)] = probability
        labels[..., BLANK] = np.maximum(1e-6, 1 - labels[..., :BLANK].sum(axis=2))
        return np.log(labels).astype(np.float32), np.zeros((*labels.shape[:2], 0), np.float32), after


def read(*frames: Frame, keywords: tuple[str, ...] = (), limits: KeywordLimits | None = None) -> list[TimedPiece]:
    """Search greedily, then with keywords."""
    said = [(place, max(frame, key=frame.__getitem__)) for place, frame in enumerate(frames) if frame]
    said = [(place, piece) for place, piece in said if frames[place][piece] > 0.5]
    pieces = [
        TimedPiece(piece, np.log(frames[place][piece]), place * 0.08, (place + 1) * 0.08) for place, piece in said
    ]
    encoding = np.arange(len(frames), dtype=np.float32)[:, None]
    hearing = Hearing(encoding, pieces, [PIECES.index(piece) for _, piece in said], Script(frames))
    return respelled(hearing, pieces, KeywordTree(keywords, VOCABULARY, limits))


def text(pieces: list[TimedPiece]) -> str:
    return " ".join(word.text for word in words_of(pieces))


YORP: tuple[Frame, ...] = ({}, {"▁y": 0.9}, {}, {"or": 0.9}, {"p": 0.7, "k": 0.2}, {})
"""Almost york."""


def test_a_confused_sub_word_is_corrected() -> None:
    assert text(read(*YORP)) == "yorp"
    assert text(read(*YORP, keywords=("York", "new"))) == "york"


def test_what_does_not_sound_like_a_keyword_stays() -> None:
    clear = ({"▁y": 0.9}, {"or": 0.9}, {"p": 0.999})
    assert text(read(*clear, keywords=("york",))) == "yorp"
    assert text(read(*clear, keywords=("york",), limits=KeywordLimits(boost=15.0))) == "yorp", "the floor"
    assert text(read(*clear, keywords=("york",), limits=KeywordLimits(boost=15.0, floor=-9.0))) == "york"


def test_pieces_come_with_their_own_times_and_probabilities() -> None:
    pieces = read(*YORP, keywords=("york",))
    assert [(one.piece, round(one.start, 2), round(one.end, 2)) for one in pieces] == [
        ("▁y", 0.08, 0.16),
        ("or", 0.24, 0.32),
        ("k", 0.32, 0.40),
    ]
    assert np.exp(pieces[2].logprob) == pytest.approx(0.2, rel=1e-4)


def test_a_keyword_never_comes_where_nothing_was_heard() -> None:
    assert read({"▁y": 0.45}, {"or": 0.45}, {"k": 0.45}, keywords=("york",)) == []


def test_a_keyword_that_was_heard_stays_as_it_was() -> None:
    frames: tuple[Frame, ...] = ({"▁y": 0.9}, {"or": 0.9}, {"k": 0.7, "p": 0.3})
    assert read(*frames, keywords=("york", "yorp")) == read(*frames)


def test_a_phrase_takes_the_place_of_several_words() -> None:
    frames: tuple[Frame, ...] = (
        {"▁you": 0.7, "▁new": 0.2},
        {},
        {"▁y": 0.9},
        {"or": 0.9},
        {"p": 0.7, "k": 0.2},
        {},
        {"▁a": 0.9},
    )
    assert text(read(*frames, keywords=("New York",))) == "new york a"
    assert text(read(*frames, keywords=("york",))) == "you york a"


def test_punctuation_after_a_word_stays() -> None:
    assert text(read(*YORP, {".": 0.9}, {}, {"▁a": 0.9}, keywords=("york",))) == "york. a"


def test_no_more_than_so_many_are_replaced() -> None:
    assert text(read(*YORP, *YORP, *YORP, keywords=("york",), limits=KeywordLimits(most=2))) == "york york yorp"


def test_keywords_are_bounded() -> None:
    with pytest.raises(BadRequestError, match="at most 2"):
        KeywordTree(["a"] * 3, VOCABULARY, KeywordLimits(keywords=2))


@dataclass(frozen=True, slots=True)
class Chance:
    """Random, and other after every other history: the state is a hash of it."""

    seed: int
    durations: tuple[int, ...]

    def start(self, count: int, /) -> Floats:
        return np.zeros((1, 1, count, 1), np.float32)

    def say(self, frames: Floats, tokens: Indices, states: Floats, /) -> tuple[Floats, Floats, Floats]:
        after = (states * 31 + tokens[None, None, :, None] + 1) % 65_521
        answers = [
            [self.row(int(place), int(state)) for place in places]
            for places, state in zip(frames[:, :, 0], after[0, 0, :, 0], strict=True)
        ]
        whole = np.array(answers, np.float32)
        return whole[..., : BLANK + 1], whole[..., BLANK + 1 :], after

    def row(self, place: int, state: int) -> Floats:
        values = np.random.default_rng([self.seed, place, state]).normal(0, 2, BLANK + 1 + len(self.durations))
        parts = np.split(values, [BLANK + 1])
        return np.concatenate([part - np.log(np.exp(part).sum()) for part in parts if part.size]).astype(np.float32)


def best_alignment(network: Chance, tokens: list[int], frames: int) -> float:
    """Try all ways through the lattice."""
    states, state = [], network.start(1)
    for token in (BLANK, *tokens):
        _, _, state = network.say(np.zeros((1, 1, 1), np.float32), np.array([token]), state)
        states.append(int(state[0, 0, 0, 0]))

    @cache
    def best(place: int, said: int) -> float:
        if place >= frames:
            return 0.0 if (place, said) == (frames, len(tokens)) else -inf
        row = network.row(place, states[said])
        labels, lasting = row[: BLANK + 1], row[BLANK + 1 :]
        ways = []
        for duration, extra in zip(network.durations, lasting, strict=True) if network.durations else ((0, 0.0),):
            if said < len(tokens):
                ways.append(float(labels[tokens[said]] + extra) + best(place + duration, said + 1))
            if duration or not network.durations:
                ways.append(float(labels[BLANK] + extra) + best(place + max(1, duration), said))
        return max(ways)

    return best(0, 0)


@pytest.mark.parametrize("durations", [(), (0, 1, 2, 3, 4), (1, 2)])
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_best_of_all_alignments(seed: int, durations: tuple[int, ...]) -> None:
    network, frames = Chance(seed, durations), 7
    heard, wanted = [PIECES.index("▁a"), PIECES.index("l")], [PIECES.index(piece) for piece in ("▁y", "or", "k")]
    pieces = [TimedPiece(PIECES[token], -1.0, place * 0.08, (place + 1) * 0.08) for token, place in zip(heard, (1, 3))]  # noqa: B905
    encoding = np.arange(frames, dtype=np.float32)[:, None]
    gap = best_alignment(network, wanted, frames) - best_alignment(network, heard, frames)

    def text_with(boost: float) -> str:
        tree = KeywordTree(["york"], VOCABULARY, KeywordLimits(boost=boost, floor=-99.0))
        return text(respelled(Hearing(encoding, pieces, heard, network), pieces, tree))

    spelled_whole = best_alignment(network, [PIECES.index("▁york")], frames) - best_alignment(network, heard, frames)
    needed = -max(gap, spelled_whole)  # for each sub-word of the shortest spelling, which is one
    assert text_with(needed + 0.01) == "york"
    assert text_with(needed - 0.01) == "al"
