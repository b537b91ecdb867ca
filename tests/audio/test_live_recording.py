"""Containers decoded while they are recorded, in processes that may die without harm to others."""

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from nautilus.audio.live_decode import MOST_WITHOUT_SOUND, Container
from nautilus.audio.live_recording import LiveRecording
from nautilus.audio.sandbox import DecodeLimits, Sandbox, open_sandbox
from nautilus.errors import BadAudioError, OverloadedError
from nautilus.types import SAMPLE_RATE, Waveform
from tests.audio.media import RECORDERS, Recorder, encode, likeness, record, voice
from tests.engines.sounds import recording, sample

KINDS: tuple[Container, ...] = ("webm", "ogg", "mp4")
OTHERS = {
    "mp3": Recorder("mp3", "libmp3lame", {}),
    "adts": Recorder("adts", "aac", {}),
    "flac": Recorder("flac", "flac", {}),
    "wav": Recorder("wav", "pcm_s16le", {}),
    "mpegts": Recorder("mpegts", "aac", {}),
    "matroska": Recorder("matroska", "libopus", {"live": "1"}),
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
        yield sandbox


def parts(data: bytes, seed: int, longest: int) -> Iterator[bytes]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    while data:
        size = chance.randint(1, longest)
        yield data[:size]
        data = data[size:]


async def fed(live: LiveRecording, data: bytes) -> Waveform:
    return np.concatenate([np.zeros(0, np.float32), *[waveform async for waveform in live.read(data)]])


async def heard(sandbox: Sandbox, container: Container, pieces: Iterator[bytes]) -> Waveform:
    async with sandbox.listen(container) as live:
        waveforms = [await fed(live, piece) for piece in pieces]
        waveforms += [waveform async for waveform in live.finish()]
    return np.concatenate(waveforms)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_browser_records_is_heard_and_pieces_of_any_size_change_no_sample(
    sandbox: Sandbox, kind: Container
) -> None:
    data = record(sample(), RECORDERS[kind])
    whole = await heard(sandbox, kind, iter([data]))
    assert abs(len(whole) - len(sample())) < 0.1 * SAMPLE_RATE
    assert likeness(whole, sample(), 2400) > 0.9
    for seed, longest in enumerate((1, 50, 997, 20_000)):
        pieces = parts(data, seed, longest) if longest > 1 else iter([*(bytes([b]) for b in data[:3000]), data[3000:]])
        assert np.array_equal(await heard(sandbox, kind, pieces), whole)
    assert np.array_equal(await heard(sandbox, "auto", parts(data, 9, 2000)), whole)


@pytest.mark.parametrize("kind", OTHERS)
async def test_other_containers_are_told_by_their_first_bytes(sandbox: Sandbox, kind: str) -> None:
    data = record(sample(), OTHERS[kind], 16_000 if kind in ("flac", "wav") else 48_000)
    whole = await heard(sandbox, "auto", iter([data]))
    assert abs(len(whole) - len(sample())) < 0.15 * SAMPLE_RATE
    assert np.array_equal(await heard(sandbox, "auto", parts(data, 0, 3000)), whole)


@pytest.mark.parametrize("kind", KINDS)
async def test_sound_is_heard_as_it_comes(sandbox: Sandbox, kind: Container) -> None:
    data = record(sample(), RECORDERS[kind])
    async with sandbox.listen(kind) as live:
        samples = 0
        for start in range(0, len(data), 2000):
            samples += len(await fed(live, data[start : start + 2000]))
            behind = (start + 2000) / len(data) * len(sample()) - samples
            assert behind < 0.6 * SAMPLE_RATE


@pytest.mark.speech
def test_real_files_that_can_be_streamed_are_heard_whole(speech: Path) -> None:
    import asyncio

    async def check() -> None:
        async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
            for name in ("mp3_cbr64.mp3", "ogg_vorbis.ogg", "aac_adts.aac", "mka_flac.mka", "video_audio_second.mkv"):
                path = speech / "formats" / "valid" / name
                whole = await heard(sandbox, "auto", parts(path.read_bytes(), 0, 5000))
                assert abs(len(whole) - len(recording(path))) < 0.1 * SAMPLE_RATE, name

    asyncio.run(check())


async def test_what_is_no_sound_is_told_and_harms_no_other(sandbox: Sandbox) -> None:
    data = record(sample(), RECORDERS["webm"])
    async with sandbox.listen("webm") as good:
        before = await fed(good, data[:20_000])
        for kind in KINDS:
            async with sandbox.listen(kind) as live:
                with pytest.raises(BadAudioError, match=r"audio|sound"):
                    await fed(live, random.Random(0).randbytes(MOST_WITHOUT_SOUND + 100_000))  # noqa: S311 - noise
        rest = [await fed(good, data[20_000:])] + [waveform async for waveform in good.finish()]
    assert np.array_equal(np.concatenate([before, *rest]), await heard(sandbox, "webm", iter([data])))


async def test_garbage_within_a_recording_ends_it(sandbox: Sandbox) -> None:
    data = record(sample(), RECORDERS["webm"])
    async with sandbox.listen("webm") as live:
        assert len(await fed(live, data[:20_000]))
        with pytest.raises(BadAudioError):
            await fed(live, random.Random(1).randbytes(MOST_WITHOUT_SOUND + 100_000))  # noqa: S311 - noise


async def test_pictures_without_sound_are_given_up(sandbox: Sandbox) -> None:
    silent = encode(voice(1, 48_000), 48_000, "matroska", "video+libopus")
    assert len(await heard(sandbox, "auto", iter([silent]))) == pytest.approx(SAMPLE_RATE, abs=1600)
    async with sandbox.listen("auto") as live:
        with pytest.raises(BadAudioError):
            await fed(live, bytes(2 * MOST_WITHOUT_SOUND))


async def test_little_that_unfolds_to_hours_is_refused(sandbox: Sandbox) -> None:
    bomb = record(np.zeros(600 * SAMPLE_RATE, np.float32), OTHERS["flac"], 16_000)
    async with sandbox.listen("auto") as live:
        with pytest.raises(BadAudioError, match="more sound than"):
            await fed(live, bomb)


async def test_nothing_is_no_mistake(sandbox: Sandbox) -> None:
    assert len(await heard(sandbox, "webm", iter([b""]))) == 0


async def test_a_process_that_dies_ends_its_own_stream_alone(sandbox: Sandbox) -> None:
    data = record(sample(), RECORDERS["webm"])
    async with sandbox.listen("webm") as doomed, sandbox.listen("webm") as other:
        await fed(doomed, data[:10_000])
        await fed(other, data[:10_000])
        first = min(child.number for child in sandbox._nursery.children.values() if child.pid)
        os.kill(sandbox._nursery.children[first].pid, signal.SIGKILL)
        with pytest.raises(BadAudioError, match="crashed"):
            await fed(doomed, data[10_000:])
        assert len(await fed(other, data[10_000:]))


async def test_only_so_many_are_decoded_and_no_process_is_left() -> None:
    async with open_sandbox(DecodeLimits(workers=1, max_live=2)) as sandbox:
        async with sandbox.listen("webm"), sandbox.listen("ogg"):
            with pytest.raises(OverloadedError):
                await sandbox.listen("ogg").__aenter__()
        assert repr(sandbox) == "<Sandbox: 0 open of 512, 0 long, 0 live, 0 decoding of 1, 1 processes, 1 idle>"
        async with sandbox.listen("ogg"):
            pass
