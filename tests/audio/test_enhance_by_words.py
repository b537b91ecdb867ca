"""Cleaning judged by what the embedded model hears: a small, fixed part of what `make accuracy` measures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from nautilus.audio.enhance import enhance
from nautilus.audio.quality import speech_level
from nautilus.engines.bundle import read_bundle
from nautilus.engines.catalog import Catalog
from nautilus.engines.onnx import OnnxEngine
from nautilus.measure.score import score
from nautilus.types import Options, Waveform
from tests.engines.sounds import recording

pytestmark = pytest.mark.speech

Clip = tuple[Waveform, str]
Hear = Callable[[Sequence[Waveform]], list[str]]


@pytest.fixture(scope="module")
def hear(tmp_path_factory: pytest.TempPathFactory) -> Hear:
    """Transcribe a batch."""
    engine = OnnxEngine(read_bundle(Catalog(tmp_path_factory.mktemp("models")).embedded))
    return lambda waveforms: [heard.text for heard in engine.transcribe(waveforms, Options())]


@pytest.fixture(scope="module")
def clips(speech: Path) -> list[Clip]:
    """Every third utterance of AN4, by length."""
    rows = [json.loads(line) for line in (speech / "dev_en.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["set"] == "an4" and row["duration"] < 6][::3]
    chosen.sort(key=lambda row: float(row["duration"]))
    return [(recording(speech / row["audio_filepath"]), row["text"]) for row in chosen]


def noisy(waveform: Waveform, snr: float, noise: Waveform) -> Waveform:
    stretch = np.resize(noise, len(waveform))
    wanted = 10 ** ((speech_level(waveform) - snr) / 20)
    return np.asarray(waveform + stretch * np.float32(wanted / stretch.std()), np.float32)


def white(waveform: Waveform) -> Waveform:
    return noisy(waveform, 5.0, np.random.default_rng(1).standard_normal(len(waveform)).astype(np.float32))


def quiet(waveform: Waveform) -> Waveform:
    return waveform * np.float32(10 ** ((-52.0 - speech_level(waveform)) / 20))


def offset(waveform: Waveform) -> Waveform:
    return waveform + np.float32(0.1)


def differences(clips: list[Clip], change: Callable[[Waveform], Waveform], hear: Hear) -> list[int]:
    """How many more errors each utterance has after `auto` than without; what `auto` leaves alone isn't heard."""
    changed = [change(waveform) for waveform, _ in clips]
    cleaned = [enhance(waveform, "auto").waveform for waveform in changed]
    places = [place for place, waveform in enumerate(changed) if cleaned[place] is not waveform]
    if not places:
        return [0]
    before, after = (hear([waveforms[place] for place in places]) for waveforms in (changed, cleaned))
    texts = [clips[place][1] for place in places]
    return [
        score(text, became, "en", plain=True).errors - score(text, was, "en", plain=True).errors
        for text, was, became in zip(texts, before, after, strict=True)
    ]


@pytest.mark.parametrize("change", [np.asarray, quiet, offset, white])
def test_auto_is_no_worse_than_none(change: Callable[[Waveform], Waveform], clips: list[Clip], hear: Hear) -> None:
    more = np.array(differences(clips, change, hear))
    assert more.sum() <= 2 * np.sqrt(np.square(more).sum())  # two standard deviations of chance


def test_auto_is_no_worse_among_other_voices(speech: Path, clips: list[Clip], hear: Hear) -> None:
    rows = [json.loads(line) for line in (speech / "noise.jsonl").read_text(encoding="utf-8").splitlines()]
    babble = recording(speech / next(row["audio_filepath"] for row in rows if row["label"] == "babble"))
    more = np.array(differences(clips, lambda waveform: noisy(waveform, 10.0, babble), hear))
    assert more.sum() <= 2 * np.sqrt(np.square(more).sum())


def test_auto_helps_in_steady_noise(clips: list[Clip], hear: Hear) -> None:
    assert sum(differences(clips, white, hear)) < 0
