import numpy as np
import pytest

from nautilus.runtime.short import surer, with_quiet, without_quiet
from nautilus.types import SAMPLE_RATE, Hypothesis, Waveform, Word


def seconds(length: float) -> Waveform:
    return np.ones(round(length * SAMPLE_RATE), np.float32)


def test_what_is_short_is_heard_with_quiet_around_it() -> None:
    heard = with_quiet(seconds(0.5))
    assert len(heard) == 1.1 * SAMPLE_RATE
    assert not heard[: int(0.3 * SAMPLE_RATE)].any()
    assert not heard[-int(0.3 * SAMPLE_RATE) :].any()


@pytest.mark.parametrize("length", [0.0, 1.0, 7.0])
def test_everything_else_is_heard_as_it_is(length: float) -> None:
    waveform = seconds(length)
    assert with_quiet(waveform) is waveform


def test_words_have_the_times_of_the_waveform_itself() -> None:
    said = (Word("a", 0.1, 0.4, 0.9), Word("b", 0.5, 0.6, 0.9), Word("c", 0.7, 1.0, 0.9))
    heard = without_quiet(Hypothesis("a b c", said), seconds(0.5))
    assert [(word.text, round(word.start, 3), round(word.end, 3)) for word in heard.words] == [
        ("a", 0.0, 0.1),
        ("b", 0.2, 0.3),
        ("c", 0.4, 0.5),
    ]
    assert without_quiet(Hypothesis("a b c", said), seconds(2)).words == said


def test_of_two_hearings_the_surer_counts_and_any_before_none() -> None:
    sure, unsure = (Hypothesis("a", (Word("a", 0.0, 0.1, confidence),)) for confidence in (0.9, 0.4))
    assert surer(sure, unsure) is surer(unsure, sure) is sure
    assert surer(Hypothesis(""), unsure) is surer(unsure, Hypothesis("")) is unsure
