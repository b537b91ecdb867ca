"""Every odd and broken file of the folder of real speech gets a transcript or a 4xx, and the server goes on."""

import asyncio
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


async def test_under_load_every_transcript_is_the_one_given_alone(server: str, speech: Path) -> None:
    """64 clients at once: good uploads, broken ones and ones given up half way."""
    chosen = rows(speech, "dev_en")[::47][:24]
    audio = [(speech / row["audio_filepath"]).read_bytes() for row in chosen]
    async with httpx.AsyncClient(base_url=server, timeout=60) as client:

        async def hear(data: bytes) -> str:
            response = await client.post("/v1/audio/transcriptions", files={"file": data})
            return str(response.json()["text"]) if response.is_success else f"refused: {response.status_code}"

        async def give_up(data: bytes) -> str:
            try:
                async with asyncio.timeout(0.01):
                    return await hear(data)
            except TimeoutError:
                return "given up"

        alone = [await hear(data) for data in audio]
        good = [hear(data) for data in audio]
        broken = [hear(data[: len(data) // 3][::-1]) for data in audio[:20]]
        given_up = [give_up(data) for data in audio[:20]]
        answers = await asyncio.gather(*good, *broken, *given_up)
    assert list(answers[: len(alone)]) == alone
    assert set(answers[len(alone) : len(alone) + len(broken)]) == {"refused: 400"}
