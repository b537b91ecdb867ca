import numpy as np

from nautilus.measure.wholeness import Part, compare, joined
from nautilus.types import SAMPLE_RATE, Word


def words(text: str, start: float = 0.0) -> tuple[Word, ...]:
    return tuple(Word(word, start + n, start + n + 0.5, 1.0) for n, word in enumerate(text.split()))


PARTS = [Part("one two", 0.0, words("one too")), Part("three four", 10.0, words("three four"))]


def test_utterances_are_joined_with_pauses_in_turn() -> None:
    recording, starts = joined([np.ones(SAMPLE_RATE, np.float32)] * 3, (0.0, 2.0))
    assert starts == [0.0, 1.0, 4.0]
    assert len(recording) == 5 * SAMPLE_RATE
    assert 0 < np.abs(recording[2 * SAMPLE_RATE : 4 * SAMPLE_RATE]).max() < 0.001


def test_a_whole_like_its_parts_has_lost_nothing() -> None:
    result = compare(PARTS, [*words("one too"), *words("three four", 10.0)])
    assert (result.words, result.errors_alone, result.errors_whole, result.changed) == (4, 1, 1, 0)
    assert (result.loss, result.backwards, result.shifted(0.0)) == (0.0, 0, 0.0)


def test_a_lost_word_and_a_moved_one_are_found() -> None:
    result = compare(PARTS, [*words("one too"), *words("four", 11.2)])
    assert (result.changed, result.loss) == (1, 25.0)
    assert result.shifted(0.1) == 2 / 6


def test_time_that_goes_back_is_found() -> None:
    assert compare(PARTS, [*words("one too", 5.0), *words("three four", 1.0)]).backwards == 1
