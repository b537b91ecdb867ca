"""A transducer that was trained, if only on AN4 and digits: what random weights say nothing about."""

import json
from pathlib import Path

import pytest

from nautilus.engines.nemo import NemoEngine
from nautilus.measure.score import score
from nautilus.types import Options, Waveform
from tests.engines.sounds import recording, times
from tests.engines.test_nemo import as_nemo_says

pytestmark = [pytest.mark.nemo, pytest.mark.speech, pytest.mark.timeout(300)]

WEIGHTS = Path(__file__).parents[1] / "fixtures" / "rnnt.npz"


@pytest.fixture(scope="module")
def nemo_file(nemo: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - must be there
    from recipes.transducer.model import create, load

    path = tmp_path_factory.mktemp("transducer") / "rnnt.nemo"
    load(create(tdt=False), WEIGHTS).save_to(str(path))
    return path


@pytest.fixture(scope="module")
def engine(nemo_file: Path) -> NemoEngine:
    return NemoEngine("rnnt", nemo_file)


@pytest.fixture(scope="module")
def said(speech: Path) -> list[tuple[Waveform, str]]:
    """Recordings of AN4's test set that last longer than a second, and their texts."""
    rows = [json.loads(line) for line in (speech / "dev_en.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["set"] == "an4" and row["duration"] > 1.0]
    return [(recording(speech / row["audio_filepath"]), row["text"]) for row in chosen]


def errors(engine: NemoEngine, said: list[tuple[Waveform, str]]) -> int:
    heard = engine.transcribe([waveform for waveform, _ in said], Options())
    return sum(score(text, one.text, "en", plain=True).errors for (_, text), one in zip(said, heard, strict=True))


def test_it_says_what_nemo_says(engine: NemoEngine, nemo_file: Path, said: list[tuple[Waveform, str]]) -> None:
    clips = [waveform for waveform, _ in said[:20]]
    heard = engine.transcribe(clips, Options())
    assert [one.text for one in heard] == [result.text for result in as_nemo_says(nemo_file, clips)]
    assert errors(engine, said) < 0.2 * sum(len(text.split()) for _, text in said)


def test_neighbours_change_nothing(engine: NemoEngine, said: list[tuple[Waveform, str]]) -> None:
    clips = [waveform for waveform, _ in said[:8]]
    together = engine.transcribe(clips, Options())
    assert [times(one) for one in together] == [times(engine.transcribe([clip], Options())[0]) for clip in clips]
