from itertools import pairwise

import numpy as np
import pytest

from nautilus.types import Segment, Word
from nautilus.wire.subtitles import GAP, LINE, LONGEST, SHORTEST, SMALL_GAP, SPEED, Cue, cues_of, srt, vtt


def said(text: str, start: float = 0.0, every: float = 0.4) -> Segment:
    """Say a word every so many seconds, without pauses; times to the millisecond."""
    words = tuple(
        Word(word, round(start + n * every, 3), round(start + (n + 1) * every, 3), 1.0)
        for n, word in enumerate(text.split())
    )
    return Segment(start, words[-1].end, words)


def spoken(seed: int) -> list[Segment]:
    """Speak words of all lengths with all kinds of pauses."""
    rng = np.random.default_rng(seed)
    segments, now = [], 0.0
    for _ in range(30):
        words = []
        for _ in range(int(rng.integers(1, 40))):
            length = float(rng.uniform(0.05, 0.7))
            words.append(Word("x" * int(rng.integers(1, 13)), now, now + length, 1.0))
            now += length + float(rng.choice([0.0, 0.05, 0.3, 0.7], p=[0.6, 0.2, 0.15, 0.05]))
        segments.append(Segment(words[0].start, words[-1].end, tuple(words)))
        now += float(rng.choice([0.0, 0.2, 0.9, 5.0]))
    return segments


def texts(*segments: Segment) -> list[str]:
    return [cue.text for cue in cues_of(segments)]


@pytest.mark.parametrize("seed", range(8))
def test_every_word_is_shown_once_in_cues_that_can_be_read(seed: int) -> None:
    segments = spoken(seed)
    cues = cues_of(segments)
    shown = " ".join(cue.text.replace("\n", " ") for cue in cues)
    assert shown == " ".join(segment.text for segment in segments)
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(len(line) <= LINE for line in lines)
        assert 0 < cue.end - cue.start <= LONGEST + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_cues_never_overlap_and_gaps_are_seen_or_closed(seed: int) -> None:
    for one, following in pairwise(cues_of(spoken(seed))):
        gap = following.start - one.end
        full = one.end - one.start > LONGEST - 1e-6
        assert gap == pytest.approx(GAP) or gap >= SMALL_GAP - 1e-6 or full


@pytest.mark.parametrize("seed", range(8))
def test_a_cue_stays_as_long_as_it_takes_to_read_where_there_is_room(seed: int) -> None:
    cues = cues_of(spoken(seed))
    for one, following in pairwise(cues):
        seconds = one.end - one.start
        read = seconds >= SHORTEST - 1e-6 and len(one.text.replace("\n", "")) / seconds <= SPEED + 1e-6
        assert read or following.start - one.end == pytest.approx(GAP)


def test_nothing_said_shows_nothing() -> None:
    assert cues_of([]) == []
    assert (srt([]), vtt([])) == ("", "WEBVTT\n")


def test_a_cue_is_a_sentence() -> None:
    first, second = said("The harbour is quiet tonight."), said("Nobody wants to leave it before dawn.", 2.0)
    assert texts(first, second) == [first.text, second.text]


def test_short_answers_share_a_cue() -> None:
    assert texts(said("Yes.", 0.0, 0.3), said("I know it.", 0.35, 0.2)) == ["Yes. I know it."]


def test_a_silence_is_never_bridged() -> None:
    assert texts(said("one"), said("two", 2.0)) == ["one", "two"]


def test_lines_break_at_commas_and_before_conjunctions() -> None:
    assert texts(said("When the last ship had left, the whole town went to sleep.", every=0.3)) == [
        "When the last ship had left,\nthe whole town went to sleep."
    ]
    assert texts(said("She packed her books for the journey and left the key behind", every=0.3)) == [
        "She packed her books for the journey\nand left the key behind"
    ]


def test_no_line_ends_with_an_article() -> None:
    lines = [
        line
        for cue in cues_of([said("we saw the house and a garden behind the wall " * 8)])
        for line in cue.text.split("\n")
    ]
    assert not [line for line in lines if line.endswith((" the", " a"))]


def test_cues_of_a_long_sentence_break_where_it_breathes() -> None:
    sentence = (
        "The committee met on Monday to discuss the budget for next year, "
        "but the chairman had to leave before the vote and nobody took his place."
    )
    first, second = cues_of([said(sentence, every=0.35)])
    assert first.text.endswith("year,")
    assert second.text.startswith("but")


def test_a_short_cue_stays_for_a_moment() -> None:
    assert cues_of([said("yes", 1.0, 0.1)]) == [Cue(1.0, 2.0, "yes")]


def test_a_fast_cue_stays_longer_but_makes_room() -> None:
    fast = said("twenty seven thousand four hundred", 0.0, 0.2)
    alone, *_ = cues_of([fast])
    assert alone.end == pytest.approx(len(fast.text) / SPEED)
    followed, _ = cues_of([fast, said("and more", 2.1)])
    assert followed.end == pytest.approx(2.1 - GAP)


def test_hours_are_written_out() -> None:
    late = Segment(3661.5, 3663.0, (Word("late", 3661.5, 3663.0, 1.0),))
    assert "01:01:01,500 --> 01:01:03,000" in srt([late])


def test_a_word_longer_than_a_line_is_kept_whole() -> None:
    word = "x" * 60
    assert texts(said(f"so {word} it is")) == ["so", word, "it is"]


def test_markup_is_escaped_in_webvtt() -> None:
    assert "fish &amp; &lt;chips&gt;" in vtt([said("fish & <chips>")])


def test_words_without_duration_are_shown_all_the_same() -> None:
    words = tuple(Word(f"w{n}", 1.0, 1.0, 1.0) for n in range(60))
    cues = cues_of([Segment(1.0, 1.0, words)])
    assert " ".join(cue.text.replace("\n", " ") for cue in cues) == " ".join(word.text for word in words)
    assert all(one.end <= following.start for one, following in pairwise(cues))
