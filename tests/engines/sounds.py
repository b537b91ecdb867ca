"""What the engines are given to hear."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from nautilus.audio.decode import Decoder
from nautilus.types import SAMPLE_RATE, Hypothesis, Waveform

ROOT = Path(__file__).parents[2]


@cache
def sample() -> Waveform:
    """Four seconds of speech that are part of the project."""
    return recording(ROOT / "benchmarks" / "sample.flac")


def recording(path: Path) -> Waveform:
    """Decode a whole file."""
    with path.open("rb") as file:
        decoder = Decoder(file)
        try:
            waveform = decoder.read(600.0)
        finally:
            decoder.close()
    assert waveform is not None
    return waveform


def noise(seconds: float, seed: int = 0) -> Waveform:
    """White noise at a tenth of full scale."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def speech_clips(folder: Path, count: int, shortest: float = 1.0) -> list[Waveform]:
    """Choose clips of `dev_en` that last longer than `shortest`, evenly from all its sets and speakers."""
    with (folder / "dev_en.jsonl").open(encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if shortest < row["duration"] < 15.0]
    return [recording(folder / row["audio_filepath"]) for row in rows[:: max(1, len(rows) // count)][:count]]


def times(hypothesis: Hypothesis) -> list[tuple[str, float, float]]:
    """Return the words and when they were said, to the millisecond."""
    return [(word.text, round(word.start, 3), round(word.end, 3)) for word in hypothesis.words]


def assert_alike(heard: Hypothesis, expected: Hypothesis, tolerance: float) -> None:
    """Check that the words are the same, and their times within so many seconds."""
    assert heard.text == expected.text
    for ours, theirs in zip(heard.words, expected.words, strict=True):
        assert ours.text == theirs.text
        assert abs(ours.start - theirs.start) < tolerance + 1e-6, (ours, theirs)
        assert abs(ours.end - theirs.end) < tolerance + 1e-6, (ours, theirs)
        assert abs(ours.confidence - theirs.confidence) < 0.01, (ours, theirs)
