"""Long recordings lose nothing, and what is no speech has no words: real recordings through the real pipeline."""

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nautilus.assembly import Core, assemble
from nautilus.hearing import Task
from nautilus.measure.wholeness import Part, compare, joined
from nautilus.settings import Settings
from nautilus.types import SAMPLE_RATE, Waveform, Word
from tests.engines.sounds import noise, recording, silence


@pytest.fixture
async def core(settings: Settings) -> AsyncIterator[Core]:
    async with assemble(settings) as running:
        async with running.pool.lease(running.default_model):
            pass  # loaded: until then few may wait
        yield running


async def hear(core: Core, waveform: Waveform) -> tuple[Word, ...]:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        output.writeframes((np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes())
    file.seek(0)
    return (await core.pipeline.transcribe(file, Task(core.default_model))).words


async def hear_all(core: Core, waveforms: list[Waveform]) -> list[tuple[Word, ...]]:
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(hear(core, waveform)) for waveform in waveforms]
    return [task.result() for task in asked]


def clips(speech: Path, manifest: str, chosen: str) -> list[tuple[str, Waveform]]:
    rows = map(json.loads, (speech / f"{manifest}.jsonl").read_text(encoding="utf-8").splitlines())
    kept = [row for row in rows if chosen in row["audio_filepath"] and 0.3 < (row["duration"] or 0) < 30]
    return [(row["text"], recording(speech / row["audio_filepath"])) for row in kept]


@pytest.mark.speech
async def test_minutes_of_speech_are_heard_as_their_utterances_are(core: Core, speech: Path) -> None:
    said = clips(speech, "dev_en", "an4")
    alone = await hear_all(core, [waveform for _, waveform in said])
    whole, starts = joined([waveform for _, waveform in said], (1.0,))
    parts = [Part(text, start, words) for (text, _), start, words in zip(said, starts, alone, strict=True)]
    result = compare(parts, await hear(core, whole))
    assert result.loss <= 1.0
    assert result.changed <= 0.05 * result.words
    assert result.shifted(0.1) <= 0.02
    assert result.backwards == 0


@pytest.mark.speech
async def test_noise_has_hardly_any_words(core: Core, speech: Path) -> None:
    heard = await hear_all(core, [waveform for _, waveform in clips(speech, "noise", "esc10")[::4]])
    assert sum(map(bool, heard)) <= 0.1 * len(heard)


async def test_silence_hum_noise_and_music_have_no_words(core: Core) -> None:
    time = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    hum = sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (50, 100, 150))
    tune = np.concatenate(
        [
            sum(0.1 * np.sin(2 * np.pi * hertz * k * time[:4000]) / k for k in range(1, 6)) * np.exp(-4 * time[:4000])
            for hertz in (262, 294, 330, 349, 392, 440, 494, 523) * 3
        ]
    )
    sounds = [silence(5.0), noise(5.0), 0.01 * noise(45.0), np.asarray(hum, np.float32), tune.astype(np.float32)]
    assert await hear_all(core, sounds) == [()] * len(sounds)


async def test_words_of_a_long_recording_are_in_order_and_inside_it(core: Core) -> None:
    sample = recording(Path(__file__).parents[1] / "benchmarks" / "sample.flac")
    whole, _ = joined([sample] * 15, (0.0, 0.4, 1.5))
    words = await hear(core, whole)
    assert len(words) >= 15 * 0.9 * len(await hear(core, sample))
    assert all(one.start <= following.start and one.end <= following.end for one, following in pairwise(words))
    assert words[-1].end <= len(whole) / SAMPLE_RATE
