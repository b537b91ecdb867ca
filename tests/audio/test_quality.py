import numpy as np
import pytest

from nautilus.audio.quality import Quality, bandwidth, measure
from nautilus.types import SAMPLE_RATE, Waveform


def tone(hertz: float, seconds: float = 2.0, height: float = 0.5) -> Waveform:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (height * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def noise(rms: float, seconds: float = 2.0) -> Waveform:
    return (rms * np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def bursts(seconds: float = 4.0) -> Waveform:
    """Half a second of tone, half a second of nothing, and so on."""
    gate = np.arange(round(seconds * SAMPLE_RATE)) % SAMPLE_RATE < SAMPLE_RATE // 2
    return tone(440, seconds) * gate.astype(np.float32)


def test_silence_has_no_level_and_no_band() -> None:
    expected = Quality(0.0, -120.0, 0.0, 0.0)
    assert measure(np.zeros(16_000, np.float32)) == expected
    assert measure(np.zeros(0, np.float32)) == expected
    assert bandwidth(np.zeros(16_000, np.float32)) == bandwidth(np.zeros(0, np.float32)) == 0.0


@pytest.mark.parametrize("snr", [5, 10, 20, 30])
def test_the_noise_between_words_is_measured(snr: float) -> None:
    speech_rms = 0.5 / np.sqrt(2)
    mixed = bursts() + noise(speech_rms * 10 ** (-snr / 20), 4.0)
    assert measure(mixed).snr_db == pytest.approx(snr, abs=1.5)


def test_steady_noise_has_hardly_any_ratio() -> None:
    assert measure(noise(0.1)).snr_db < 1.0


def test_steady_noise_hardly_swings() -> None:
    assert measure(noise(0.1)).swing_db < 3.0
    assert measure(bursts() + noise(0.1, 4.0)).swing_db < 3.0


def test_what_comes_and_goes_swings() -> None:
    gate = np.repeat([1.0, 0.05, 0.5, 0.01], 8000).astype(np.float32)
    assert measure(noise(0.1) * gate).swing_db > 6.0


def test_silence_between_words_gives_the_highest_ratio() -> None:
    assert measure(bursts()).snr_db == 80.0


def test_the_level_is_that_of_the_speech() -> None:
    assert measure(bursts()).rms_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)


@pytest.mark.parametrize("hertz", [500, 3400, 7500])
def test_bandwidth_is_the_highest_frequency_recorded(hertz: float) -> None:
    assert bandwidth(tone(200) + tone(hertz, height=0.1)) == pytest.approx(hertz, abs=100)


def test_an_offset_is_not_mistaken_for_sound() -> None:
    quality = measure(tone(440, height=0.1) + np.float32(0.2))
    assert quality.dc_offset == pytest.approx(0.2, abs=1e-3)
    assert quality.rms_db == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.2)


@pytest.mark.parametrize("samples", [1, 100, 319, 513])
def test_the_shortest_waveforms_are_measured(samples: int) -> None:
    waveform = tone(440)[1 : samples + 1]
    quality = measure(waveform)
    assert np.isfinite([quality.snr_db, quality.rms_db, bandwidth(waveform)]).all()


def test_a_long_recording_is_measured_like_a_short_one() -> None:
    part = bursts(2.0) + noise(0.01, 2.0)
    short, long = measure(part), measure(np.tile(part, 150))
    assert long.snr_db == pytest.approx(short.snr_db, abs=1.0)
    assert long.rms_db == pytest.approx(short.rms_db, abs=0.5)
