from itertools import pairwise
from math import log

from nautilus.engines.words import Calibration, TimedPiece, calibrated, hypothesis_of, spread_words, words_of
from nautilus.types import Word


def pieces(*texts: str) -> list[TimedPiece]:
    return [TimedPiece(text, log(0.5), n * 0.1, n * 0.1 + 0.1) for n, text in enumerate(texts)]


def texts(*given: str) -> list[str]:
    return [word.text for word in words_of(pieces(*given))]


def test_a_marked_piece_starts_a_word() -> None:
    assert texts("▁he", "llo", "▁wor", "ld") == ["hello", "world"]
    assert texts(" he", "llo", " world") == ["hello", "world"]


def test_a_first_piece_without_a_mark_is_a_word_too() -> None:
    assert texts("he", "llo") == ["hello"]


def test_what_says_that_an_utterance_is_over_is_no_word() -> None:
    heard = hypothesis_of(pieces("▁yes", "<EOU>", "▁no", "▁<EOB>"), "en", 1.0)
    assert heard.text == "yes no"


def test_punctuation_stays_with_its_word() -> None:
    assert texts("▁yes", ".", "▁no", "?") == ["yes.", "no?"]


def test_a_lone_mark_is_no_word() -> None:
    assert texts("▁", "▁yes") == ["yes"]


def test_a_lone_mark_before_letters_belongs_to_them() -> None:
    assert texts("▁", "y", "es") == ["yes"]


def test_a_word_spans_its_pieces_and_is_right_if_all_of_them_are() -> None:
    (word,) = words_of([TimedPiece("▁a", log(0.9), 0.1, 0.2), TimedPiece("b", log(0.4), 0.2, 0.5)])
    assert (word.start, word.end) == (0.1, 0.5)
    assert abs(word.confidence - 0.36) < 1e-6
    assert [token.text for token in word.tokens] == [" a", "b"]


def test_punctuation_that_the_model_sets_apart_joins_its_word() -> None:
    assert texts("▁yes", "▁.", "▁no", "▁", "?") == ["yes.", "no?"]
    assert texts("▁¿", "qué", "▁?") == ["¿qué?"]
    assert texts("▁?") == ["?"]


def test_punctuation_does_not_make_a_word_last() -> None:
    spoken = TimedPiece("▁yes", 0.0, 1.0, 1.1)
    for late in (TimedPiece(".", 0.0, 3.0, 3.1), TimedPiece("▁.", 0.0, 3.0, 3.1)):
        (word,) = words_of([spoken, late])
        assert (word.text, word.start, word.end, len(word.tokens)) == ("yes.", 1.0, 1.1, 2)


def test_a_hypothesis_ends_with_its_waveform() -> None:
    heard = hypothesis_of([TimedPiece("▁yes", 0.0, 0.96, 1.04), TimedPiece("▁no", 0.0, 1.04, 1.12)], "en", 1.0)
    assert heard.text == "yes no"
    assert [(word.start, word.end) for word in heard.words] == [(0.96, 1.0), (0.99, 1.0)]


def test_words_without_times_are_spread_by_their_letters() -> None:
    words = spread_words(" one  three ", 10.0, log(0.5))
    assert [(word.text, word.start, word.end) for word in words] == [("one", 0.0, 4.0), ("three", 4.0, 10.0)]
    assert all(abs(word.confidence - 0.5) < 1e-6 for word in words)
    assert spread_words("", 10.0, 0.0) == ()


def test_punctuation_has_no_say_in_confidence() -> None:
    (word,) = words_of([TimedPiece("\u2581yes", log(0.9), 0.1, 0.2), TimedPiece(".", log(0.1), 0.5, 0.6)])
    assert abs(word.confidence - 0.9) < 1e-6


LATE = Calibration(delay=0.2, tail=0.1, slope=0.5, offset=1.0)


def test_calibrated_words_start_earlier_and_last_until_the_next() -> None:
    first, second = calibrated([Word("a", 1.0, 1.1, 0.5), Word("b", 1.28, 1.4, 0.5)], 3.0, LATE)
    assert (round(first.start, 3), round(first.end, 3)) == (0.8, 1.08)
    assert (round(second.start, 3), round(second.end, 3)) == (1.08, 1.5)


def test_calibrated_words_stay_inside_their_waveform_and_in_order() -> None:
    heard = [Word("w", 0.08 * n, 0.08 * n + 0.08, 0.5) for n in range(10)]
    words = calibrated(heard, 0.8, LATE)
    assert words[0].start == 0.0
    assert words[-1].end == 0.8
    assert all(one.start < one.end <= following.start for one, following in pairwise(words))


def test_calibrated_confidence_keeps_its_order_and_stays_a_probability() -> None:
    words = calibrated([Word("w", n, n + 0.5, n / 10) for n in range(11)], 20.0, LATE)
    confidences = [word.confidence for word in words]
    assert confidences == sorted(set(confidences))
    assert 0 < confidences[0] < confidences[-1] < 1


def test_what_was_not_measured_is_left_alone() -> None:
    pieces = [TimedPiece("\u2581yes", log(0.5), 0.96, 1.04)]
    (word,) = hypothesis_of(pieces, "en", 2.0).words
    assert (word.start, word.end, round(word.confidence, 6)) == (0.96, 1.04, 0.5)
