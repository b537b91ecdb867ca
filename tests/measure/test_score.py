import pytest

from nautilus.measure.score import Difference, rate, score


def test_equal_texts_have_no_errors() -> None:
    assert score("Mr. Jones isn't here.", "mister jones is not here", "en").errors == 0


def test_each_kind_of_error_is_counted() -> None:
    one = score("the cat sat on the green mat", "the bat sat on green mat today", "en")
    assert (one.words, one.substitutions, one.deletions, one.insertions) == (7, 1, 1, 1)
    assert Difference("substitute", "cat", "bat") in one.differences


def test_plain_compares_words_as_they_are() -> None:
    assert score("twenty five", "25", "en").errors == 0
    assert score("twenty five", "25", "en", plain=True).errors == 2


def test_other_languages_keep_their_letters() -> None:
    assert score("Grüße aus München!", "grüße aus münchen", "de").errors == 0


def test_words_where_nothing_was_said_are_insertions() -> None:
    one = score("", "hello there", "en")
    assert (one.words, one.insertions) == (0, 2)


def test_rates_add_up() -> None:
    both = rate([score("a b c d", "a b c d", "en"), score("e f", "e x", "en")])
    assert both.wer == pytest.approx(1 / 6)
    assert both.low <= both.wer <= both.high


def test_silence_heard_as_silence_is_perfect() -> None:
    assert rate([score("", "", "en")]).wer == 0.0
    assert rate([score("", "noise", "en")]).wer == 1.0
