import numpy as np
import pytest

from nautilus.audio.vad import FRAME_SECONDS, Probabilities, Span
from nautilus.runtime.track import PAUSE, SHORTEST, SpeechTrack


def frames(*parts: tuple[float, float]) -> Probabilities:
    """Make so many seconds of a probability, one after the other."""
    return np.concatenate([np.full(round(seconds / FRAME_SECONDS), value, np.float32) for seconds, value in parts])


def follow(track: SpeechTrack, probabilities: Probabilities) -> list[float]:
    """Tell a track all frames bit by bit; return where its pauses began."""
    steps = (track.add(probabilities[start : start + 8]) for start in range(0, len(probabilities), 8))
    return [ended for ended in steps if ended is not None]


def test_speech_opens_pauses_and_goes_on() -> None:
    track = SpeechTrack()
    assert follow(track, frames((1.0, 0.0), (2.0, 0.9))) == []
    assert (track.speech, track.open) == (Span(1.0, 3.0), True)
    assert follow(track, frames((PAUSE + 0.1, 0.0))) == [3.0]
    assert (track.speech, track.open) == (Span(1.0, 3.0), False)
    follow(track, frames((1.0, 0.9)))
    assert track.open
    assert track.speech is not None
    assert [track.speech.start, track.speech.end] == pytest.approx([1.0, 4.4])


def test_a_click_is_no_speech() -> None:
    track = SpeechTrack()
    assert follow(track, frames((1.0, 0.0), (SHORTEST - 0.04, 0.9), (1.0, 0.0))) == []
    assert track.speech is None
    assert not track.open


def test_a_short_gap_is_no_pause() -> None:
    track = SpeechTrack()
    assert follow(track, frames((1.0, 0.9), (PAUSE - 0.1, 0.0), (1.0, 0.9))) == []
    assert track.open


def test_a_new_utterance_has_none_of_the_old_one_s_speech() -> None:
    track = SpeechTrack()
    follow(track, frames((2.0, 0.9)))
    track.begin(1.5)
    assert track.speech == Span(1.5, 2.0), "who goes on speaking speaks in the next one"
    track.begin(1.95)
    assert track.speech is None
    assert follow(track, frames((1.0, 0.0))) == []
    assert track.speech is None
