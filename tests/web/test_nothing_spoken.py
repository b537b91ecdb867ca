"""Silence, music and noise alone have no words: models make some, and the server drops them."""

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import numpy as np
import pytest
from recipes.vad import noises

from nautilus.types import SAMPLE_RATE, Waveform
from tests.audio.media import wav

Make = Callable[[np.random.Generator, int], Waveform]
VOICES = "babble"
"""The one label of the noises in which somebody does speak."""


def silence(rng: np.random.Generator, count: int) -> Waveform:
    """Return what an open microphone hears in a quiet room."""
    return np.asarray(1e-4 * rng.standard_normal(count), np.float32)


async def texts(server: str, files: Iterable[bytes]) -> list[str]:
    """What is heard of recordings, eight at once."""
    places = asyncio.Semaphore(8)
    async with httpx.AsyncClient(base_url=server, timeout=60) as client:

        async def hear(data: bytes) -> str:
            async with places:
                response = await client.post("/transcribe", files={"file": data})
            return str(response.raise_for_status().json()["text"])

        return list(await asyncio.gather(*map(hear, files)))


@pytest.mark.parametrize("make", [silence, noises.coloured, noises.clicks, noises.music])
async def test_made_sounds_have_no_words(server: str, make: Make) -> None:
    sounds = [make(np.random.default_rng(seed), 15 * SAMPLE_RATE) for seed in range(12)]
    assert await texts(server, [wav(0.2 * sound / max(1e-3, np.abs(sound).max())) for sound in sounds]) == [""] * 12


@pytest.mark.speech
@pytest.mark.timeout(300)
async def test_recorded_noise_has_no_words(server: str, speech: Path) -> None:
    rows = [json.loads(line) for line in (speech / "noise.jsonl").read_text().splitlines()]
    files = [speech / row["audio_filepath"] for row in rows if row["label"] != VOICES]
    heard = zip(files, await texts(server, [file.read_bytes() for file in files]), strict=True)
    assert [(file.name, text) for file, text in heard if text] == []
