from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from nautilus.audio.enhance import BAND_HZ, CEILING, RANGE_DB, TARGET_DB, _band_pass, choose, enhance
from nautilus.audio.quality import Quality, speech_level
from nautilus.types import LEVELS, SAMPLE_RATE, Level, Waveform

FILTERS: tuple[Level, ...] = ("medium", "high")
CLEANERS: tuple[Level, ...] = ("low", *FILTERS)
CLEAN = Quality(snr_db=40.0, rms_db=-25.0, dc_offset=0.0, swing_db=13.0)


def noise(rms: float, seconds: float, seed: int = 1) -> Waveform:
    return (rms * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def voice(seconds: float, height: float = 0.1) -> Waveform:
    """Harmonics of a gliding pitch, in syllables of 0.2 s with pauses every second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (130 * time + 3 * np.sin(2 * np.pi * 0.7 * time))
    sound = sum(np.sin(order * phase) / order for order in range(1, 20))
    syllables = np.maximum(0, np.sin(2 * np.pi * 2.5 * time)) * (time % 1 < 0.7)
    return np.asarray(height * sound * syllables, np.float32)


def error_db(clean: Waveform, other: Waveform) -> float:
    """Energy of what differs, against the clean signal's; the best gain is applied first."""
    scaled = other * (np.dot(clean, other) / np.dot(other, other))
    return float(10 * np.log10((np.sum(np.square(scaled - clean)) + 1e-12) / np.sum(np.square(clean))))


@pytest.mark.parametrize("seconds", [0.3, 3.7, 30.0])
def test_the_band_pass_is_the_filter_that_it_is_said_to_be(seconds: float) -> None:
    audio = noise(0.1, seconds) + np.float32(0.2)
    sections = butter(2, BAND_HZ, "bandpass", fs=SAMPLE_RATE, output="sos")
    wanted = sosfiltfilt(sections, audio.astype(np.float64), padlen=SAMPLE_RATE // 10)
    assert np.abs(_band_pass(audio) - wanted).max() < 1e-3
    assert np.abs(_band_pass(audio) - wanted)[800:-800].max() < 2e-5


def test_hum_goes_and_speech_stays() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for frequency, gain in ((5, 0.0), (60, 0.5), (1000, 1.0), (4000, 1.0)):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        middle = slice(SAMPLE_RATE // 2, -SAMPLE_RATE // 2)
        assert np.abs(_band_pass(tone)[middle]).max() == pytest.approx(gain, abs=0.01)


def test_none_and_auto_return_clean_audio_itself() -> None:
    audio = voice(3)
    assert enhance(audio, "none").waveform is audio
    assert enhance(audio, "auto").waveform is audio
    assert enhance(audio, "auto").level_applied == "none"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("samples", [0, 1, 5, 100, 800, 16_001, 200_000])
def test_length_is_kept_and_samples_are_finite(level: Level, samples: int) -> None:
    audio = (voice(13) + noise(0.02, 13))[1000 : 1000 + samples]
    result = enhance(audio, level).waveform
    assert result.shape == audio.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


@pytest.mark.parametrize("level", LEVELS)
def test_silence_stays_silence(level: Level) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert not enhance(silence, level).waveform.any()
    hiss = noise(1e-5, 1.0)
    assert np.abs(enhance(hiss, level).waveform).max() < 1e-4


@pytest.mark.parametrize("level", CLEANERS)
def test_silence_between_words_stays_silence(level: Level) -> None:
    audio = voice(12) + noise(0.02, 12)
    audio[4 * SAMPLE_RATE : 7 * SAMPLE_RATE] = 0
    assert np.abs(enhance(audio, level).waveform[5 * SAMPLE_RATE : 6 * SAMPLE_RATE]).max() < 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_audio_gives_the_same_result(level: Level) -> None:
    audio = voice(3) + noise(0.05, 3)
    assert np.array_equal(enhance(audio, level).waveform, enhance(audio.copy(), level).waveform)


@pytest.mark.parametrize("level", CLEANERS)
def test_the_input_is_not_written_to(level: Level) -> None:
    audio = voice(2) + noise(0.02, 2)
    before = audio.copy()
    enhance(audio, level)
    assert np.array_equal(audio, before)


@pytest.mark.parametrize("level", CLEANERS)
def test_nothing_moves_in_time(level: Level) -> None:
    audio = voice(4) + noise(0.01, 4)
    result = enhance(audio, level).waveform
    lags = range(-40, 41)
    likeness = [float(np.dot(np.roll(result, lag)[100:-100], audio[100:-100])) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0


@pytest.mark.parametrize("level", FILTERS)
@pytest.mark.parametrize("height", [0.005, 0.1, 0.4])
def test_speech_comes_to_one_level(level: Level, height: float) -> None:
    assert speech_level(enhance(voice(5, height), level).waveform) == pytest.approx(TARGET_DB, abs=0.5)


@pytest.mark.parametrize(("height", "level"), [(0.002, RANGE_DB[0]), (0.7, RANGE_DB[1])])
def test_low_brings_speech_into_range(height: float, level: float) -> None:
    assert speech_level(enhance(voice(5, height), "low").waveform) == pytest.approx(level, abs=0.5)


def test_low_leaves_speech_in_range_exactly_alone() -> None:
    audio = voice(5, 0.05)
    assert enhance(audio, "low").waveform is audio


def test_peaks_stay_below_full_scale() -> None:
    audio = voice(3, 0.01)
    audio[SAMPLE_RATE] = 0.9
    assert np.abs(enhance(audio, "low").waveform).max() <= CEILING + 1e-6


def test_an_offset_is_removed() -> None:
    assert abs(float(enhance(voice(3) + np.float32(0.1), "low").waveform.mean())) < 2e-3


@pytest.mark.parametrize(("level", "gain"), [("medium", 5.0), ("high", 5.0)])
@pytest.mark.parametrize("snr", [5.0, 10.0])
def test_steady_noise_goes_down(level: Level, gain: float, snr: float) -> None:
    clean = voice(10)
    rms = float(np.sqrt(np.mean(np.square(clean)))) * 10 ** (-snr / 20)
    before = clean + noise(rms, 10)
    after = enhance(before, level).waveform
    assert error_db(clean, after) < error_db(clean, before) - gain


@pytest.mark.parametrize("level", CLEANERS)
def test_clean_speech_is_hardly_changed(level: Level) -> None:
    clean = voice(10) + noise(1e-4, 10)
    assert error_db(clean, enhance(clean, level).waveform) < -20


def test_the_noise_may_rise_within_a_recording() -> None:
    rising = np.concatenate((noise(0.001, 5), noise(0.05, 15)))
    result = enhance(rising, "high").waveform
    assert result[-SAMPLE_RATE:].std() / result[5 * SAMPLE_RATE : 5 * SAMPLE_RATE + 2000].std() < 0.4


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "none"),
        ({"rms_db": -52.0}, "low"),
        ({"rms_db": -8.0}, "low"),
        ({"dc_offset": 0.05}, "low"),
        ({"snr_db": 5.0}, "none"),  # not steady: other voices, barking
        ({"swing_db": 3.0}, "none"),  # steady, but far below the speech
        ({"snr_db": 15.0, "swing_db": 3.0}, "high"),
        ({"snr_db": 0.0, "rms_db": -120.0, "swing_db": 0.0}, "none"),
    ],
)
def test_auto_does_as_little_as_it_can(changes: dict[str, float], level: Level) -> None:
    assert choose(replace(CLEAN, **changes)) == level


def test_what_was_done_is_reported() -> None:
    drowned = voice(5) + noise(0.2, 5)
    assert enhance(drowned, "auto").level_applied == "high"
    assert enhance(drowned, "low").level_applied == "low"
    assert enhance(drowned, "none").quality is None
