from math import log

from nautilus.engines.words import TimedPiece, words_of


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
