"""Every odd and broken file of the folder of real speech gets a transcript or a 4xx, and the server goes on."""

import json
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.speech


def rows(speech: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (speech / f"{name}.jsonl").read_text().splitlines()]


def ask(server: str, file: Path) -> httpx.Response:
    with file.open("rb") as opened:
        return httpx.post(f"{server}/transcribe", files={"file": opened}, timeout=60)


@pytest.mark.parametrize("name", ["formats", "odd"])
def test_every_file_gets_an_answer_that_helps(server: str, speech: Path, name: str) -> None:
    for row in rows(speech, name):
        response = ask(server, speech / row["audio_filepath"])
        assert response.status_code in (200, 400), row["audio_filepath"]
        if response.status_code == 400:
            assert len(response.json()["error"]["message"]) > 10
    assert httpx.get(f"{server}/health/ready").is_success


def test_one_sentence_in_every_format_gives_the_same_words(server: str, speech: Path) -> None:
    """Containers and exact codecs must not change a word; narrow and lossy ones may change a few."""
    reference = ask(server, speech / "formats/valid/wav_pcm_s16le.wav").json()["text"].split()
    exact = (
        "wav_pcm_s16",
        "wav_pcm_s24",
        "wav_pcm_s32",
        "flac",
        "tta",
        "wav_odd",
        "wav_streaming",
        "wav_named",
        "no_ext",
    )
    for row in rows(speech, "formats"):
        file = speech / row["audio_filepath"]
        if row["expect"] != "transcript":
            continue
        words = ask(server, file).json()["text"].split()
        assert words, file.name
        if file.name.startswith(exact):
            assert words == reference, file.name


def test_silence_says_nothing(server: str, speech: Path) -> None:
    assert ask(server, speech / "formats/empty/silence_8k_mulaw.wav").json()["text"] == ""
