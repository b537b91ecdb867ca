from itertools import pairwise

from nautilus.types import Segment, Word
from nautilus.wire.subtitles import LINE, LINES, LONGEST, cues_of, srt


def spoken(count: int, every: float = 0.4) -> Segment:
    words = tuple(Word(f"word{n}", n * every, n * every + 0.3, 1.0) for n in range(count))
    return Segment(0.0, words[-1].end, words)


def test_cues_fit_two_lines_and_seven_seconds() -> None:
    cues = cues_of([spoken(100)])
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= LINES
        assert all(len(line) <= LINE for line in lines)
        assert cue.end - cue.start <= LONGEST
    assert " ".join(cue.text.replace("\n", " ") for cue in cues) == spoken(100).text


def test_cues_follow_each_other() -> None:
    cues = cues_of([spoken(30, every=1.0)])
    assert all(one.end <= following.start for one, following in pairwise(cues))


def test_a_short_cue_stays_for_a_moment() -> None:
    (cue,) = cues_of([Segment(1.0, 1.1, (Word("yes", 1.0, 1.1, 1.0),))])
    assert (cue.start, cue.end) == (1.0, 1.8)


def test_hours_are_written_out() -> None:
    late = Segment(3661.5, 3662.0, (Word("late", 3661.5, 3663.0, 1.0),))
    assert "01:01:01,500 --> 01:01:03,000" in srt([late])


def test_a_word_longer_than_a_line_is_kept_whole() -> None:
    word = "x" * 60
    (cue,) = cues_of([Segment(0, 1, (Word(word, 0, 1, 1.0),))])
    assert cue.text == word
