import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from nautilus.cli import app
from nautilus.cli.configuration import entries
from nautilus.cli.quantize import beginnings
from nautilus.settings import Settings, load_settings
from nautilus.types import SAMPLE_RATE
from tests.web.clips import SPEECH, wav


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("NAUTILUS_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("NAUTILUS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    handlers, before = logging.getLogger().handlers[:], structlog.get_config()
    yield
    logging.getLogger().handlers[:] = handlers  # the command's own would write to a stream that is gone
    structlog.configure(**before)


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def test_one_file_prints_its_text() -> None:
    result = run("transcribe", str(SPEECH))
    assert result.exit_code == 0
    assert len(result.stdout.split()) > 3


def test_standard_input_is_a_recording_too() -> None:
    result = run("transcribe", "-", "-f", "verbose_json", given=SPEECH.read_bytes())
    assert json.loads(result.stdout)["duration"] == 3.935


def test_a_folder_becomes_one_file_each(tmp_path: Path) -> None:
    recordings = tmp_path / "talks"
    recordings.mkdir()
    for name in ("a.wav", "b.wav"):
        (recordings / name).write_bytes(wav(1))
    (recordings / "notes.txt").write_text("not a recording")
    result = run("transcribe", str(recordings), "-f", "srt", "-o", str(tmp_path / "out"))
    assert result.exit_code == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.srt", "b.srt"]


def test_a_bad_file_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nonsense")
    result = run("transcribe", str(tmp_path / "bad.wav"), str(SPEECH))
    assert result.exit_code == 1
    assert "not an audio or video file" in result.stderr
    assert f"# {SPEECH}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("transcribe", "no-such-file.wav"), "There is no file no-such-file.wav"),
        (("transcribe", "x.wav", "-f", "docx"), "response_format must be one of"),
        (("models", "info", "nothing"), "There is no model named 'nothing'"),
        (("models", "remove", "nothing"), "There is no model named 'nothing'"),
        (("bench", "--url", "http://127.0.0.1:9", str(SPEECH)), "There is no server"),
        (("serve", "--model", "nothing"), "There is no model named 'nothing'"),
    ],
)
def test_mistakes_end_in_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_models_are_listed_with_where_they_are() -> None:
    listed = run("models", "list").stdout
    assert "embedded" in listed
    assert "nvidia/parakeet-tdt-0.6b-v3" in listed


def test_a_model_is_described() -> None:
    described = run("models", "info", "embedded").stdout
    assert "ctc" in described
    assert "onnx" in described


def test_the_configuration_explains_every_setting() -> None:
    shown = run("config").stdout
    assert "NAUTILUS_BATCH__MAX_WAITING" in shown
    assert all(entry.meaning for entry in entries(load_settings()))
    assert {entry.variable.split("__")[0] for entry in entries(Settings())} == {
        f"NAUTILUS_{name.upper()}" for name in Settings.model_fields
    }


def test_a_removed_model_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "owner--model"
    folder.mkdir(parents=True)
    assert run("models", "remove", "owner/model").exit_code == 0
    assert not folder.exists()


@pytest.mark.parametrize("more", [(), ("--plain",), ("--url", "http://127.0.0.1:9")])
def test_evaluating_says_first_what_it_needs(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "all.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": str(SPEECH), "duration": 3.9, "text": "words"}))
    monkeypatch.setattr("nautilus.measure.score.find_spec", lambda name: None if name == "jiwer" else name)
    result = run("evaluate", str(manifest), *more)
    assert result.exit_code != 0
    assert "pip install 'nautilus[evaluate]'" in result.output


@pytest.mark.nemo
def test_a_model_is_quantized_by_recordings_and_serves(tmp_path: Path) -> None:
    out = tmp_path / "light"
    result = run("quantize", "embedded", str(out), str(SPEECH))
    assert result.exit_code == 0, result.stderr
    assert f"nautilus serve --model {out}" in result.stderr.replace("\n", "")
    assert run("transcribe", str(SPEECH), "--model", str(out)).stdout == run("transcribe", str(SPEECH)).stdout


@pytest.mark.nemo
def test_quantizing_names_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"nonsense")
    result = run("quantize", "embedded", str(tmp_path / "light"), str(tmp_path / "bad.wav"))
    assert result.exit_code == 1
    assert "bad.wav: " in result.stderr
    assert not (tmp_path / "light").exists()
    assert "not standard input" in run("quantize", "embedded", str(tmp_path / "light"), "-").stderr


def test_of_many_recordings_an_even_choice_fits_the_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nautilus.cli.quantize.MOST", 2)
    for number in range(1, 6):
        (tmp_path / f"{number}.wav").write_bytes(wav(number))
    assert [round(len(one) / SAMPLE_RATE) for one in beginnings([str(tmp_path)])] == [1, 4]
