from math import log

from nautilus.engines.words import TimedPiece, hypothesis_of, spread_words, words_of


def pieces(*texts: str) -> list[TimedPiece]:
    return [TimedPiece(text, log(0.5), n * 0.1, n * 0.1 + 0.1) for n, text in enumerate(texts)]


def texts(*given: str) -> list[str]:
    return [word.text for word in words_of(pieces(*given))]


def test_a_marked_piece_starts_a_word() -> None:
    assert texts("▁he", "llo", "▁wor", "ld") == ["hello", "world"]
    assert texts(" he", "llo", " world") == ["hello", "world"]


def test_a_first_piece_without_a_mark_is_a_word_too() -> None:
    assert texts("he", "llo") == ["hello"]


def test_punctuation_stays_with_its_word() -> None:
    assert texts("▁yes", ".", "▁no", "?") == ["yes.", "no?"]


def test_a_lone_mark_is_no_word() -> None:
    assert texts("▁", "▁yes") == ["yes"]


def test_a_lone_mark_before_letters_belongs_to_them() -> None:
    assert texts("▁", "y", "es") == ["yes"]


def test_a_word_spans_its_pieces_and_has_their_mean_confidence() -> None:
    (word,) = words_of([TimedPiece("▁a", log(0.9), 0.1, 0.2), TimedPiece("b", log(0.4), 0.2, 0.5)])
    assert (word.start, word.end) == (0.1, 0.5)
    assert abs(word.confidence - 0.6) < 1e-6
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
