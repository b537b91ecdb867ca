"""Synthetic frames for what must hold exactly; real speech for what it is worth."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from time import perf_counter

import jiwer
import numpy as np
import pytest

from nautilus.engines.bundle import Bundle
from nautilus.engines.ctc import CtcVocabulary, best_path
from nautilus.engines.heard import KeywordLimits
from nautilus.engines.keywords import KeywordGraph, Passage, Scores, boosted
from nautilus.engines.onnx import open_session
from nautilus.engines.spelling import spellings_of
from nautilus.engines.words import TimedPiece, words_of
from nautilus.errors import BadRequestError
from nautilus.types import Waveform
from tests.engines.sounds import recording, silence

PIECES = ("<unk>", "▁y", "or", "k", "p", "▁york", "▁new", "▁you", "▁a", "l", "▁", "e", "y", ".", "<blk>")
VOCABULARY = CtcVocabulary(PIECES, 14, 0.08)


def rows(*frames: dict[str, float]) -> Scores:
    """Log-probabilities of frames that name a few pieces' probabilities; the blank has the rest."""
    probabilities = np.full((len(frames), len(PIECES)), 1e-6)
    for row, frame in zip(probabilities, frames, strict=True):
        for piece, probability in frame.items():
            row[PIECES.index(piece)] = probability
        row[-1] = max(1e-6, 1 - sum(frame.values()))
    return np.asarray(np.log(probabilities), np.float32)


def read(logprobs: Scores, *keywords: str, limits: KeywordLimits | None = None) -> str:
    graph = KeywordGraph(keywords, VOCABULARY, limits)
    return " ".join(word.text for word in words_of(boosted(logprobs, best_path(logprobs, VOCABULARY), graph)))


YORP: tuple[dict[str, float], ...] = ({}, {"▁y": 0.9}, {}, {"or": 0.9}, {"p": 0.7, "k": 0.2}, {})
"""Almost york."""


def test_a_confused_sub_word_is_corrected() -> None:
    assert read(rows(*YORP)) == "yorp"
    assert read(rows(*YORP), "york") == "york"
    assert read(rows(*YORP), "York") == "york"


def test_what_does_not_sound_like_a_keyword_stays() -> None:
    clear = rows({"▁y": 0.9}, {"or": 0.9}, {"p": 0.999})
    assert read(clear, "york") == "yorp"
    assert read(clear, "york", limits=KeywordLimits(boost=15.0)) == "yorp", "the floor"
    assert read(clear, "york", limits=KeywordLimits(boost=15.0, floor=-9.0)) == "york"


def test_pieces_come_with_their_own_times_and_probabilities() -> None:
    logprobs = rows(*YORP)
    graph = KeywordGraph(["york"], VOCABULARY)
    pieces = boosted(logprobs, best_path(logprobs, VOCABULARY), graph)
    assert [(piece.piece, round(piece.start, 2), round(piece.end, 2)) for piece in pieces] == [
        ("▁y", 0.08, 0.16),
        ("or", 0.24, 0.32),
        ("k", 0.32, 0.40),
    ]
    assert np.exp(pieces[2].logprob) == pytest.approx(0.2)


def test_a_keyword_never_comes_where_nothing_was_heard() -> None:
    whispered = ({"▁y": 0.45}, {"or": 0.45}, {"k": 0.45})
    assert read(rows(*whispered), "york") == ""
    assert read(rows({"▁a": 0.9}, {}, *whispered, {}, {"▁you": 0.9}), "york") == "a you"


def test_without_keywords_nothing_changes() -> None:
    logprobs = rows(*YORP)
    greedy = best_path(logprobs, VOCABULARY)
    assert boosted(logprobs, greedy, KeywordGraph([], VOCABULARY)) == greedy
    assert boosted(logprobs[:0], [], KeywordGraph(["york"], VOCABULARY)) == []


def test_a_keyword_that_was_heard_stays_as_it_was() -> None:
    logprobs = rows({"▁york": 0.6, "▁y": 0.3}, {"or": 0.3}, {"k": 0.3})
    greedy = best_path(logprobs, VOCABULARY)
    assert boosted(logprobs, greedy, KeywordGraph(["york"], VOCABULARY)) == greedy


def test_a_phrase_takes_the_place_of_several_words() -> None:
    logprobs = rows({"▁you": 0.7, "▁new": 0.2}, {}, {"▁y": 0.9}, {"or": 0.9}, {"p": 0.7, "k": 0.2}, {"▁a": 0.9})
    assert read(logprobs, "New York") == "new york a"
    assert read(logprobs, "york") == "you york a"


def test_the_best_of_overlapping_keywords_wins() -> None:
    logprobs = rows({"▁y": 0.9}, {"or": 0.9}, {"p": 0.6, "k": 0.2, "l": 0.1})
    assert read(logprobs, "yorl", "york") == "york"
    assert read(logprobs, "yorl") == "yorl"
    assert read(logprobs, "yorl", "york", "yorp") == "yorp"


def test_a_part_of_a_word_is_not_replaced() -> None:
    logprobs = rows({"▁y": 0.9}, {"or": 0.9}, {"k": 0.9}, {"e": 0.9}, {"l": 0.9})
    assert read(logprobs, "york", "el") == "yorkel"


def test_one_long_sound_is_not_a_double_letter() -> None:
    assert read(rows({"▁a": 0.9}, {"l": 0.9}, {"l": 0.9999}, {"l": 0.9}), "all") == "al"
    assert read(rows({"▁a": 0.9}, {"l": 0.9}, {"l": 0.7}, {"l": 0.9}), "all") == "all"


def test_punctuation_after_a_word_stays() -> None:
    assert read(rows(*YORP, {".": 0.9}, {}, {"▁a": 0.9}), "york") == "york. a"


def test_no_more_than_so_many_are_replaced() -> None:
    assert read(rows(*YORP, *YORP, *YORP), "york", limits=KeywordLimits(most=2)).split().count("york") == 2
    assert read(rows(*YORP), "york", limits=KeywordLimits(most=0)) == "yorp"


def spellings(keyword: str, vocabulary: CtcVocabulary = VOCABULARY) -> set[str]:
    ways: set[tuple[str, tuple[str, ...]]] = {("", ())}
    arcs = spellings_of([keyword], vocabulary)[keyword]
    full: set[str] = set()
    while ways:
        prefix, pieces = ways.pop()
        found = [(arc.target, (*pieces, vocabulary.pieces[arc.token])) for arc in arcs if arc.source == prefix]
        ways |= set(found)
        full |= {" ".join(pieces)} - {""} if not found else set()
    return full


def test_a_keyword_is_spelled_in_all_ways() -> None:
    assert spellings("york") == {"▁york", "▁y or k", "▁ y or k"}
    assert spellings("a york") == {f"▁a {york}" for york in spellings("york")}


@pytest.mark.parametrize("keyword", ["Yórk", " york! ", "york-", "y.o.r.k"])
def test_signs_that_the_vocabulary_lacks_are_dropped(keyword: str) -> None:
    vocabulary = CtcVocabulary((*PIECES[:13], "o", "r"), 99, 0.08)
    assert "▁york" in spellings(keyword, vocabulary)


@pytest.mark.parametrize("keyword", ["", "東京", "york2", "zork", "?", "<unk>"])
def test_other_keywords_are_reported(keyword: str) -> None:
    graph = KeywordGraph([keyword, "york"], VOCABULARY)
    assert (graph.unspellable, len(graph)) == ((keyword,), 1)


def test_capitals_count_where_the_vocabulary_has_them() -> None:
    vocabulary = CtcVocabulary(("▁Y", "▁y", "o"), 3, 0.08)
    assert spellings("Yo", vocabulary) == {"▁Y o"}
    assert spellings("yo", vocabulary) == {"▁y o"}


def test_keywords_are_bounded() -> None:
    with pytest.raises(BadRequestError, match="at most 2"):
        KeywordGraph(["a"] * 3, VOCABULARY, KeywordLimits(keywords=2))
    with pytest.raises(BadRequestError, match="3 characters"):
        KeywordGraph(["york"], VOCABULARY, KeywordLimits(characters=3))


def collapsed(path: Sequence[int], blank: int) -> tuple[int, ...]:
    return tuple(token for before, token in pairwise((blank, *path)) if token not in (before, blank))


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_best_of_all_paths(seed: int) -> None:
    vocabulary = CtcVocabulary(("▁a", "l", "▁al", "e"), 4, 0.08)
    logits = np.random.default_rng(seed).normal(0, 2, (6, 5))
    logprobs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    relative = logprobs - logprobs.max(axis=1, keepdims=True)
    graph = KeywordGraph(["ale", "all"], vocabulary)
    passage = Passage(logprobs, [], graph)
    for keyword, ways in enumerate([{(0, 1, 3), (2, 3)}, {(0, 1, 1), (2, 1)}]):
        best = max(
            float(relative[np.arange(6 - len(path), 6), path].sum())
            for length in range(2, 7)
            for path in product(range(5), repeat=length)
            if 4 not in (path[0], path[-1]) and collapsed(path, 4) in ways
        )
        assert passage.scores[keyword, 6] == pytest.approx(best, abs=1e-4)
        steps = {frame: graph.arcs[arc].token for arc, frame in passage.path(keyword, 6)}
        frames = range(min(steps), 6)
        assert sum(relative[frame, steps.get(frame, 4)] for frame in frames) == pytest.approx(best, abs=1e-4)


def test_times_stay_monotonic_in_noise() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (200, len(PIECES))).astype(np.float32)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    limits = KeywordLimits(boost=9.0, floor=-9.0, most=99)
    greedy = best_path(logprobs, VOCABULARY)
    pieces = boosted(logprobs, greedy, KeywordGraph(["york", "all", "new york"], VOCABULARY, limits))
    assert pieces != greedy
    assert all(before.end <= after.start and after.start < after.end for before, after in pairwise(pieces))


@dataclass(frozen=True, slots=True)
class Clip:
    text: str
    logprobs: Scores
    greedy: list[TimedPiece]


class Ears:
    """The embedded model up to its log-probabilities."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._session = open_session(bundle.folder / bundle.offline)
        self.vocabulary = CtcVocabulary(bundle.pieces, bundle.blank, bundle.frame_seconds)

    def __call__(self, waveform: Waveform, text: str = "") -> Clip:
        features = self._bundle.features(waveform)
        feed = {"audio_signal": features[None], "length": np.array([features.shape[1]], np.int64)}
        logprobs: Scores = self._session.run(["logprobs"], feed)[0][0]
        return Clip(text, logprobs, best_path(logprobs, self.vocabulary))


@pytest.fixture(scope="module")
def ears(embedded: Bundle) -> Ears:
    return Ears(embedded)


def manifest(speech: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (speech / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def clips(speech: Path, ears: Ears) -> list[Clip]:
    """The half of the clips that the limits were not tuned on."""
    heard = [row for row in manifest(speech, "dev_en.jsonl") if row["set"] in ("an4", "kathleen")]
    return [ears(recording(speech / row["audio_filepath"]), row["text"]) for row in heard[1::2]]


def text_of(clip: Clip, graph: KeywordGraph) -> str:
    return " ".join(word.text for word in words_of(boosted(clip.logprobs, clip.greedy, graph)))


def others(speech: Path, count: int, seed: int) -> list[str]:
    """Words of five letters and more that no clip says."""
    said = {word for row in manifest(speech, "dev_en.jsonl") for word in row["text"].split()}
    words = {word for row in manifest(speech, "train_en.jsonl") for word in row["text"].split() if len(word) > 4}
    return random.Random(seed).sample(sorted(words - said), count)  # noqa: S311 - reproducible, not secret


@pytest.mark.speech
def test_more_keywords_are_heard(clips: list[Clip], ears: Ears) -> None:
    nothing = KeywordGraph([], ears.vocabulary)
    missed = sorted(
        {word for clip in clips for word in clip.text.split() if len(word) > 3 and word not in text_of(clip, nothing)}
    )[:50]
    said = [(clip, word) for clip in clips for word in set(clip.text.split()) & set(missed)]
    graph = KeywordGraph(missed, ears.vocabulary)
    before = sum(word in text_of(clip, nothing).split() for clip, word in said) / len(said)
    after = sum(word in text_of(clip, graph).split() for clip, word in said) / len(said)
    assert after > before + 0.15


@pytest.mark.speech
def test_keywords_that_nobody_says_do_no_harm(clips: list[Clip], ears: Ears, speech: Path) -> None:
    references = [clip.text for clip in clips]
    plain = [text_of(clip, KeywordGraph([], ears.vocabulary)) for clip in clips]
    rates = []
    for seed in range(3):
        graph = KeywordGraph(others(speech, 50, seed), ears.vocabulary)
        rates.append(jiwer.wer(references, [text_of(clip, graph) for clip in clips]))
    assert np.mean(rates) < jiwer.wer(references, plain) + 0.005


@pytest.mark.speech
def test_silence_stays_silent(ears: Ears, speech: Path) -> None:
    clip = ears(silence(10.0))
    assert boosted(clip.logprobs, clip.greedy, KeywordGraph(others(speech, 50, 0), ears.vocabulary)) == clip.greedy


@pytest.mark.speech
def test_twenty_keywords_cost_a_tenth_of_the_model_s_time(clips: list[Clip], ears: Ears, speech: Path) -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 30 * 16_000).astype(np.float32)
    logprobs = np.concatenate([clip.logprobs for clip in clips])[:375]
    greedy = best_path(logprobs, ears.vocabulary)
    graph = KeywordGraph(others(speech, 20, 0), ears.vocabulary)
    times: dict[str, list[float]] = {"model": [], "keywords": []}
    for _ in range(4):
        start = perf_counter()
        ears(waveform)
        middle = perf_counter()
        boosted(logprobs, greedy, graph)
        times["model"].append(middle - start)
        times["keywords"].append(perf_counter() - middle)
    assert min(times["keywords"]) < 0.1 * min(times["model"])
