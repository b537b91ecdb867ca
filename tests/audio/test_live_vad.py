from pathlib import Path

import numpy as np
import pytest

from nautilus.audio.live_vad import LAG_SECONDS, STEP, WINDOW, LiveVad
from nautilus.audio.vad import FRAME_SECONDS, HOP, speech_probabilities
from nautilus.types import SAMPLE_RATE, Waveform
from tests.engines.sounds import noise, sample, silence, speech_clips


def judged(waveform: Waveform, size: int) -> np.ndarray:
    vad = LiveVad()
    return np.concatenate([vad.add(waveform[start : start + size]) for start in range(0, len(waveform), size)])


@pytest.mark.parametrize("size", [1, 7, 319, 320, 1600, 2560, 100_000])
def test_the_size_of_pieces_changes_nothing(size: int) -> None:
    sound = np.concatenate([silence(0.5), sample()])[: 20_000 if size < 10 else None]
    assert np.array_equal(judged(sound, size), judged(sound, len(sound)))


def test_no_frame_is_judged_later_than_it_says() -> None:
    vad, decided = LiveVad(), 0
    for number, start in enumerate(range(0, len(sample()), 800), 1):
        decided += len(vad.add(sample()[start : start + 800]))
        assert number * 800 / SAMPLE_RATE - decided * FRAME_SECONDS <= LAG_SECONDS + 0.05


def test_what_is_not_decided_can_be_asked_for_and_the_stream_goes_on() -> None:
    vad = LiveVad()
    first = vad.add(sample()[:20_001])
    rest = vad.rest()
    assert len(first) + len(rest) == -(-20_001 // HOP)
    assert np.array_equal(vad.rest(), rest)
    assert np.array_equal(np.concatenate([first, vad.add(sample()[20_001:])]), judged(sample(), 4000))
    assert len(LiveVad().rest()) == 0


def test_it_says_when_the_next_frames_are_judged() -> None:
    vad = LiveVad()
    vad.add(silence(1.0))
    assert 0 < vad.needed <= STEP * HOP
    assert len(vad.add(silence(1.0)[: vad.needed - 1])) == 0
    assert len(vad.add(silence(1.0)[:1])) == STEP


def test_a_stream_is_judged_nearly_as_a_recording_is_for_hours_of_the_same() -> None:
    pause = silence(1.5) + noise(1.5) * np.float32(0.01)
    sound = np.concatenate([sample(), pause] * 6)
    assert len(sound) > WINDOW * HOP * 3
    live, whole = judged(sound, 5000), speech_probabilities(sound)
    speech = whole[: len(live)] >= 0.5
    assert np.mean((live >= 0.5) == speech) > 0.97


@pytest.mark.speech
def test_real_speech_is_found_as_in_a_recording(speech: Path) -> None:
    pause = noise(1.0) * np.float32(0.01)
    sound = np.concatenate([part for clip in speech_clips(speech, 20) for part in (clip, pause)])
    live, whole = judged(sound, 5000), speech_probabilities(sound)
    is_speech = whole[: len(live)] >= 0.5
    assert np.mean(live[is_speech] < 0.2) < 0.005
    assert np.mean(live[~is_speech] >= 0.5) < 0.03
