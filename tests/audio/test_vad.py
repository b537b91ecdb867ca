import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nautilus.audio import vad
from nautilus.audio.chunk import Planner, WindowLimits
from nautilus.audio.decode import Decoder
from nautilus.audio.vad import (
    CONTEXT_FRAMES,
    HOP,
    STEP_FRAMES,
    Probabilities,
    Span,
    SpanFinder,
    VadLimits,
    find_spans,
    speech_probabilities,
)
from nautilus.types import SAMPLE_RATE, Waveform

LIMITS = VadLimits(threshold=0.5, release=0.35, min_speech=0.1, min_silence=0.3)
PASS = (STEP_FRAMES + 2 * CONTEXT_FRAMES) * HOP


def frames(*runs: tuple[float, int]) -> Probabilities:
    """Repeat each probability for a number of frames."""
    return np.concatenate([np.full(count, probability, np.float32) for probability, count in runs])


def noise(rms: float, seconds: float, seed: int = 1) -> Waveform:
    return (rms * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def chord(seconds: float) -> Waveform:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220.0, 277.2, 329.6, 440.0))
    return np.asarray(0.05 * tones * np.exp(-(time % 0.5) * 4), np.float32)


def read(path: Path) -> Waveform:
    decoder = Decoder(io.BytesIO(path.read_bytes()))
    blocks = []
    while (block := decoder.read(60.0)) is not None:
        blocks.append(block)
    decoder.close()
    return np.concatenate(blocks)


def spans_in(waveform: Waveform) -> list[Span]:
    return find_spans(speech_probabilities(waveform), VadLimits())


# From probabilities to spans


def test_a_span_starts_at_the_threshold_and_ends_below_the_release() -> None:
    probabilities = frames((0.0, 50), (0.4, 10), (0.6, 50), (0.4, 20), (0.2, 50))
    assert find_spans(probabilities, LIMITS) == [Span(1.2, 2.6)]


def test_short_silences_are_bridged_and_longer_ones_are_not() -> None:
    bridged = frames((1.0, 50), (0.0, 14), (1.0, 50), (0.0, 15), (1.0, 21))
    assert find_spans(bridged, LIMITS) == [Span(0.0, 2.28), Span(2.58, 3.0)]


def test_short_speech_is_dropped() -> None:
    assert find_spans(frames((0.0, 50), (1.0, 4), (0.0, 50)), LIMITS) == []
    assert find_spans(frames((0.0, 50), (1.0, 5), (0.0, 50)), LIMITS) == [Span(1.0, 1.1)]


def test_padding_stays_in_the_recording_and_joins_what_it_makes_touch() -> None:
    probabilities = frames((0.0, 5), (1.0, 45), (0.0, 20), (1.0, 25), (0.0, 5))
    assert find_spans(probabilities, replace(LIMITS, pad=0.125)) == [Span(0.0, 1.125), Span(1.275, 2.0)]
    assert find_spans(probabilities, replace(LIMITS, pad=0.2)) == [Span(0.0, 2.0)]


def test_spans_do_not_depend_on_how_probabilities_arrive() -> None:
    rng = np.random.default_rng(3)
    probabilities = np.repeat(rng.random(200), rng.integers(1, 40, 200)).astype(np.float32)
    finder, found = SpanFinder(LIMITS), []
    for part in np.array_split(probabilities, 77):
        found += finder.add(part)
    assert [*found, *finder.finish()] == find_spans(probabilities, LIMITS)


def test_an_open_span_is_known_up_to_its_last_speech() -> None:
    finder = SpanFinder(LIMITS)
    finder.add(frames((0.0, 10), (1.0, 10), (0.0, 5)))
    assert finder.open == Span(0.2, 0.4)
    assert finder.heard == 0.5


# The detector


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 5_000, PASS, PASS + 1, 2 * PASS + 12_345])
def test_there_is_one_probability_per_hop(samples: int) -> None:
    probabilities = speech_probabilities(noise(0.01, 60)[:samples])
    assert probabilities.shape == (-(-samples // HOP),)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_nothing_that_is_not_speech_gives_a_span() -> None:
    for sound in (np.zeros(320_000, np.float32), noise(1e-4, 20), noise(0.1, 20), noise(0.9, 20), chord(20)):
        assert spans_in(sound) == []


def test_the_same_waveform_gives_the_same_probabilities() -> None:
    waveform = noise(0.1, 25)
    assert np.array_equal(speech_probabilities(waveform), speech_probabilities(waveform.copy()))


def test_the_weights_are_small() -> None:
    stored = Path(vad.__file__).parents[1] / "resources" / "vad.npz"
    assert stored.stat().st_size < 200_000


# Real speech


@pytest.mark.speech
def test_real_speech_is_found_between_silences_at_any_level(speech: Path) -> None:
    voice = read(speech / "formats" / "valid" / "wav_pcm_s16le.wav")
    silence = np.zeros(3 * SAMPLE_RATE, np.float32)
    for level in (1.0, 0.1, 0.01):
        spans = spans_in(np.concatenate((silence, voice * np.float32(level), silence)))
        assert spans[0].start == pytest.approx(3.0, abs=0.6)
        assert spans[-1].end == pytest.approx(3.0 + len(voice) / SAMPLE_RATE, abs=0.6)


@pytest.mark.speech
def test_real_speech_is_found_in_noise(speech: Path) -> None:
    voice = read(speech / "formats" / "valid" / "wav_pcm_s16le.wav")
    rms = float(np.sqrt(np.mean(np.square(voice))))
    clean = speech_probabilities(voice) >= 0.5
    noisy = speech_probabilities(voice + noise(rms * 10 ** (-10 / 20), len(voice) / SAMPLE_RATE)) >= 0.5
    assert 2 * np.sum(clean & noisy) / (clean.sum() + noisy.sum()) > 0.93


@pytest.mark.speech
def test_a_long_reading_is_heard_in_full(speech: Path) -> None:
    path = speech / "long" / "lj_ch1_5min.ogg"
    segments = json.loads(path.with_suffix(".segments.json").read_text())
    recording = read(path)
    planner = Planner(WindowLimits())
    windows = [*planner.add(recording), *planner.finish()]
    assert all(
        any(window.start < segment["end"] and window.end > segment["start"] for window in windows)
        for segment in segments
    )
    assert max(len(window.audio) for window in windows) <= 30 * SAMPLE_RATE
    assert planner.speech_seconds > 0.9 * len(recording) / SAMPLE_RATE
