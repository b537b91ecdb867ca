"""A small Canary that was trained, if only on AN4 and digits: what random weights say nothing about."""

import json
from pathlib import Path

import pytest

from nautilus.engines.nemo import PROMPT, NemoEngine, load_model
from nautilus.measure.score import score
from nautilus.types import Options, Waveform
from tests.engines.sounds import recording, times

pytestmark = [pytest.mark.nemo, pytest.mark.speech, pytest.mark.timeout(300)]

WEIGHTS = Path(__file__).parents[1] / "fixtures" / "aed.npz"
ENGLISH = Options(language="en")


@pytest.fixture(scope="module")
def nemo_file(nemo: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - must be there
    from recipes.transducer.attention import PARTS, create_attention
    from recipes.transducer.model import load

    path = tmp_path_factory.mktemp("attention") / "aed.nemo"
    load(create_attention(), WEIGHTS, PARTS).save_to(str(path))
    return path


@pytest.fixture(scope="module")
def engine(nemo_file: Path) -> NemoEngine:
    return NemoEngine("aed", nemo_file)


@pytest.fixture(scope="module")
def said(speech: Path) -> list[tuple[Waveform, str]]:
    """Recordings of AN4's test set that last longer than a second, and their texts."""
    rows = [json.loads(line) for line in (speech / "dev_en.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["set"] == "an4" and row["duration"] > 1.0]
    return [(recording(speech / row["audio_filepath"]), row["text"]) for row in chosen]


def test_it_says_what_nemo_says(engine: NemoEngine, nemo_file: Path, said: list[tuple[Waveform, str]]) -> None:
    waveforms = [waveform for waveform, _ in said]
    heard = engine.transcribe(waveforms, ENGLISH)
    model = load_model("as NeMo says", nemo_file)
    results = model.transcribe(waveforms, batch_size=len(waveforms), verbose=False, **PROMPT, timestamp="yes")
    assert [one.text.split() for one in heard] == [result.text.split() for result in results]
    errors = sum(score(text, one.text, "en", plain=True).errors for (_, text), one in zip(said, heard, strict=True))
    assert errors < 0.6 * sum(len(text.split()) for _, text in said)


def test_neighbours_change_nothing(engine: NemoEngine, said: list[tuple[Waveform, str]]) -> None:
    waveforms = [waveform for waveform, _ in said[:8]]
    together = engine.transcribe(waveforms, ENGLISH)
    assert [times(one) for one in together] == [times(engine.transcribe([one], ENGLISH)[0]) for one in waveforms]
