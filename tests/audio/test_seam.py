from nautilus.audio.seam import join
from nautilus.audio.vad import Span
from nautilus.types import Word


def words_at(*items: tuple[str, float]) -> list[Word]:
    return [Word(text, start, start + 0.4, 1.0) for text, start in items]


def texts(words: list[Word]) -> list[str]:
    return [word.text for word in words]


def test_words_agree_without_case_and_punctuation() -> None:
    before = words_at(("We", 27.0), ("meet", 28.2), ("again,", 29.0), ("Mis", 29.6))
    after = words_at(("eet", 28.3), ("Again", 29.1), ("Mister", 29.7), ("Bond.", 30.4))
    assert texts(join(before, after, Span(28.0, 30.0))) == ["We", "meet", "again,", "Mister", "Bond."]


def test_a_word_said_twice_stays_twice() -> None:
    before = words_at(("no", 28.1), ("no", 28.9))
    after = words_at(("no", 28.1), ("no", 28.9), ("never", 29.6))
    assert texts(join(before, after, Span(28.0, 30.0))) == ["no", "no", "never"]


def test_without_agreement_the_middle_decides() -> None:
    before = words_at(("a", 28.0), ("b", 28.5), ("c", 29.3))
    after = words_at(("x", 28.1), ("y", 28.7), ("z", 29.4))
    assert texts(join(before, after, Span(28.0, 30.0))) == ["a", "b", "z"]


def test_an_empty_side_leaves_the_other() -> None:
    words = words_at(("a", 29.2), ("b", 29.5))
    assert join([], words, Span(28.0, 30.0)) == words
    assert join(words_at(("a", 27.0)), [], Span(28.0, 30.0)) == words_at(("a", 27.0))
