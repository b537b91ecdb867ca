from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from nautilus.audio.presence import Finding, confirmed, is_doubtful, spoken
from nautilus.types import Token, Waveform, Word
from tests.engines.sounds import noise, sample

CLIP = np.zeros(5 * 16_000, np.float32)


def word(start: float, confidence: float = 0.4) -> Word:
    return Word("w", start, start + 0.3, confidence, (Token(" w", -1.0),))


def speaking(start: float, end: float, probability: float) -> NDArray[np.float32]:
    """Detect speech in one stretch of a clip of five seconds."""
    probabilities = np.full(250, 0.01, np.float32)
    probabilities[int(start / 0.02) : int(end / 0.02)] = probability
    return probabilities


def kept(words: list[Word], heard: NDArray[np.float32]) -> list[float]:
    def detect(_: Waveform) -> NDArray[np.float32]:
        return heard

    return [one.start for one in spoken(words, CLIP, detect).words]


def test_words_are_doubted_where_the_model_is_sure_of_none() -> None:
    assert is_doubtful([word(1.0), word(2.0)], 5.0)
    assert is_doubtful([word(number / 4, 0.1) for number in range(12)], 5.0)
    assert not is_doubtful([word(number / 4, 0.8 if number in (3, 9) else 0.1) for number in range(12)], 5.0)
    assert not is_doubtful([], 5.0)


def test_few_words_in_a_long_time_are_doubted_sooner_than_as_many_in_a_short_one() -> None:
    assert is_doubtful([word(1.0, 0.8), word(2.0, 0.8)], 10.0)
    assert not is_doubtful([word(0.5, 0.8), word(0.9, 0.8)], 1.25)


def test_one_sure_word_is_enough_for_a_brief_recording() -> None:
    assert is_doubtful([word(0.1, 0.7)], 5.0)
    assert not is_doubtful([word(0.1, 0.7)], 0.6)
    assert is_doubtful([word(0.1, 0.5)], 0.6)


def test_a_word_that_is_certain_is_never_doubted() -> None:
    assert not is_doubtful([word(1.0, 1.0)], 5.0)


def test_words_are_kept_near_speech() -> None:
    assert kept([word(0.2), word(1.0), word(2.1), word(4.0)], speaking(1.1, 2.0, 0.95)) == [1.0, 2.1]


def test_the_detector_need_hardly_hear_each_word() -> None:
    many = [word(number / 2) for number in range(10)]
    heard = np.maximum(speaking(1.1, 2.0, 0.95), speaking(3.0, 5.0, 0.1))
    assert kept(many, heard) == [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]


def test_the_surer_the_model_is_the_less_sure_the_detector_must_be() -> None:
    assert kept([word(1.0)], speaking(1.0, 2.0, 0.7)) == []
    assert kept([word(1.0)], speaking(1.0, 2.0, 0.95)) == [1.0]
    assert kept([word(1.0, 0.9)], speaking(1.0, 2.0, 0.5)) == [1.0]
    assert kept([word(1.0, 0.9)], speaking(1.0, 2.0, 0.2)) == []


def test_what_one_surer_word_is_in_is_dropped_where_the_detector_is_sure_that_nobody_speaks() -> None:
    barks = [word(1.0, 0.8), word(3.0, 0.2)]
    assert is_doubtful(barks, 5.0)
    assert kept(barks, speaking(1.0, 2.0, 0.01)) == []
    assert kept(barks, speaking(0.5, 4.0, 0.5)) == [1.0, 3.0]


def test_many_words_are_likelier_to_be_words_than_few() -> None:
    heard = speaking(0.0, 5.0, 0.7)
    assert kept([word(1.0)], heard) == []
    assert len(kept([word(number / 2) for number in range(10)], heard)) == 10


def test_one_word_of_a_long_recording_is_kept_where_the_detector_is_sure() -> None:
    def detect(_: Waveform) -> NDArray[np.float32]:
        return np.full(1000, 0.95, np.float32)

    only = [word(1.0, 0.3)]
    assert list(spoken(only, np.zeros(20 * 16_000, np.float32), detect).words) == only


def test_words_whose_times_are_estimates_are_kept_wherever_somebody_speaks() -> None:
    estimated = Word("w", 4.0, 4.5, 0.6)
    assert kept([estimated], speaking(1.0, 2.0, 0.9)) == [4.0]
    assert kept([estimated], speaking(1.0, 2.0, 0.1)) == []


def test_an_empty_clip_says_nothing() -> None:
    assert spoken([word(0.0)], CLIP[:0]).words == ()


def settled(words: list[Word], heard: NDArray[np.float32], waveform: Waveform = CLIP) -> bool:
    def detect(_: Waveform) -> NDArray[np.float32]:
        return heard

    return spoken(words, waveform, detect).settled


def test_where_both_witnesses_are_sure_nobody_else_is_asked() -> None:
    assert settled([word(1.0, 0.8), word(1.5, 0.3)], speaking(1.0, 2.0, 0.999))
    assert not settled([word(1.0, 0.8), word(1.5, 0.3)], speaking(1.0, 2.0, 0.9))


def test_where_no_word_remains_nobody_else_is_asked() -> None:
    assert settled([word(1.0, 0.8)], speaking(1.0, 2.0, 0.01))
    assert settled([word(1.0, 0.8)], speaking(3.0, 4.0, 0.9))


def test_of_what_is_brief_nobody_else_is_asked() -> None:
    heard = np.full(45, 0.8, np.float32)
    assert settled([word(0.1)], heard, CLIP[: round(0.9 * 16_000)])
    assert not settled([word(0.1)], heard, CLIP[: round(1.1 * 16_000)])


def after_all(odds: float, *probabilities: float) -> bool:
    """Whether Silero, of some probabilities, makes enough of what was found."""

    def listen(_: Waveform) -> list[NDArray[np.float32]]:
        return [np.array([probability], np.float32) for probability in probabilities]

    finding = confirmed(Finding((word(1.0),), odds, settled=False), CLIP, listen)
    assert finding.settled
    return bool(finding.words)


def test_the_less_sure_the_others_are_the_surer_silero_must_be() -> None:
    assert after_all(4.0, 0.1, 0.5, 0.5)
    assert not after_all(1.0, 0.1, 0.5, 0.5)
    assert after_all(1.0, 0.1, 0.95, 0.95)
    assert not after_all(4.9, 0.1, 0.1, 0.1)


def test_one_chunk_is_no_voice() -> None:
    assert after_all(1.0, 0.1, 0.9, 0.2, 0.9)
    assert not after_all(1.0, 0.1, 0.9, 0.2, 0.1)


def test_nobody_listens_longer_than_needed() -> None:
    def listen(_: Waveform) -> Iterator[NDArray[np.float32]]:
        yield np.full(31, 0.99, np.float32)
        pytest.fail("It was sure after a second.")

    assert confirmed(Finding((word(1.0),), 1.0, settled=False), CLIP, listen).words


def test_speech_is_confirmed_and_noise_is_not() -> None:
    finding = Finding((word(1.0),), 1.0, settled=False)
    assert confirmed(finding, sample()).words == finding.words
    assert confirmed(finding, noise(2.0)).words == ()
