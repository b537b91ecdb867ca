"""Decoding in processes: they may crash, hang, hoard or be left, and only their own request notices."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from nautilus.audio.decode import Decoder, MediaFacts
from nautilus.audio.sandbox import Child, DecodeLimits, Sandbox, open_sandbox
from nautilus.errors import BadAudioError, BadRequestError, NautilusError, OverloadedError
from nautilus.types import SAMPLE_RATE, Waveform
from tests.audio.media import Clip, encode, likeness, real_clips, voice, wav


@pytest.fixture(scope="module")
def mp3() -> bytes:
    return encode(np.stack([voice(3, 44100)] * 2), 44100, "mp3", "libmp3lame")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
        yield sandbox


async def decode(sandbox: Sandbox, file: BinaryIO | bytes, channel: int | None = None) -> Waveform:
    async with sandbox.open(io.BytesIO(file) if isinstance(file, bytes) else file, channel) as recording:
        blocks = [np.empty(0, np.float32)]
        while (block := await recording.read()) is not None:
            blocks.append(block)
        return np.concatenate(blocks)


async def outcome(sandbox: Sandbox, data: bytes) -> bytes | str:
    try:
        return (await decode(sandbox, data)).tobytes()
    except BadRequestError as error:
        return str(error)


def alone(data: bytes) -> Waveform:
    block = Decoder(io.BytesIO(data)).read(3600)
    return np.empty(0, np.float32) if block is None else block


def pids(sandbox: Sandbox) -> list[int]:
    return [child.pid for child in sandbox._nursery.children.values()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.001)


def is_gone(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return False
    return True


async def frozen(sandbox: Sandbox) -> int:
    """Stop the only process, so that the next request stays in the middle of its work."""
    await decode(sandbox, wav(voice()))
    (pid,) = pids(sandbox)
    os.kill(pid, signal.SIGSTOP)
    return pid


FILES: dict[str, Callable[[], Any]] = {
    "in memory": io.BytesIO,
    "spooled": partial(tempfile.SpooledTemporaryFile, max_size=1024**2),
    "rolled over": partial(tempfile.SpooledTemporaryFile, max_size=1),
    "on disk": tempfile.TemporaryFile,
}


@pytest.mark.parametrize("kind", FILES)
async def test_any_kind_of_file_gives_the_bytes_of_the_decoder(sandbox: Sandbox, mp3: bytes, kind: str) -> None:
    with FILES[kind]() as file:
        file.write(mp3)  # not flushed, and left at its end
        np.testing.assert_array_equal(await decode(sandbox, file), alone(mp3))
        np.testing.assert_array_equal(await decode(sandbox, file), alone(mp3))


async def test_facts_warnings_and_time_come_along() -> None:
    data = wav(voice(2.5))
    async with (
        open_sandbox(DecodeLimits(workers=1, block_seconds=1.0)) as sandbox,
        sandbox.open(io.BytesIO(data[: len(data) - 32000])) as recording,
    ):
        lengths = []
        while (block := await recording.read()) is not None:
            lengths.append(len(block))
        assert lengths == [16000, 8000]
        assert recording.facts == MediaFacts("wav", "pcm_s16le", 16000, 1, recording.facts.declared_seconds)
        assert recording.facts.declared_seconds == pytest.approx(2.5, abs=0.01)
        assert recording.warnings == ("The recording ends early: 1.5 s of 2.5 s could be read.",)
        assert 0 < recording.decode_seconds < 1


async def test_the_same_file_may_be_read_twice_at_once() -> None:
    left, right = voice(), voice(pitch=210.0)
    with tempfile.TemporaryFile() as file:
        file.write(encode(np.stack([left, right]), 16000, "flac", "flac"))
        async with open_sandbox(DecodeLimits(workers=2, block_seconds=0.1)) as sandbox:
            heard = await asyncio.gather(decode(sandbox, file, 0), decode(sandbox, file, 1))
    assert likeness(heard[0], left) > 0.999
    assert likeness(heard[1], right) > 0.999


async def test_errors_keep_their_class_message_and_field(sandbox: Sandbox) -> None:
    for channel in (1, 10**30, -1):
        with pytest.raises(BadAudioError, match=r"no channel .*: the recording has 1, counted") as caught:
            await decode(sandbox, wav(voice()), channel)
        assert (type(caught.value), caught.value.code, caught.value.param) == (BadAudioError, "bad_audio", "channel")
    with pytest.raises(BadAudioError, match=r"^The file is empty\.$"):
        await decode(sandbox, b"")


async def test_a_crashing_file_costs_only_its_own_request(sandbox: Sandbox) -> None:
    pid = await frozen(sandbox)
    async with asyncio.TaskGroup() as group:
        victim = group.create_task(outcome(sandbox, wav(voice())))
        waiting = group.create_task(decode(sandbox, wav(voice())))
        await until(lambda: "1 decoding" in repr(sandbox))
        os.kill(pid, signal.SIGKILL)
    assert str(victim.result()).startswith("The file crashed the decoder")
    assert (sandbox.crashes, sandbox.timeouts) == (1, 0)
    np.testing.assert_array_equal(waiting.result(), alone(wav(voice())))


async def test_a_file_that_takes_too_long_is_ended() -> None:
    async with open_sandbox(DecodeLimits(workers=1, block_timeout=0.2)) as sandbox:
        pid = await frozen(sandbox)
        with pytest.raises(BadAudioError, match="Decoding took too long"):
            await decode(sandbox, wav(voice()))
        assert (sandbox.crashes, sandbox.timeouts) == (0, 1)
        await until(lambda: is_gone(pid))
        assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not limit the address space")
async def test_a_file_that_wants_too_much_memory_is_ended() -> None:
    async with open_sandbox(DecodeLimits(workers=1, block_seconds=600.0, memory_bytes=24 * 1024**2)) as sandbox:
        with pytest.raises(BadAudioError, match="crashed the decoder"):
            await decode(sandbox, wav(np.tile(voice(), 150)))
        assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE


async def test_a_small_file_that_unfolds_to_hours_costs_one_block() -> None:
    silence = encode(np.zeros(16000 * 1200, np.float32), 16000, "flac", "flac")
    async with open_sandbox(DecodeLimits(workers=1, block_seconds=10.0, memory_bytes=24 * 1024**2)) as sandbox:
        assert len(await decode(sandbox, silence)) == 1200 * SAMPLE_RATE


async def test_a_caller_that_goes_away_midway_leaves_a_clean_process(sandbox: Sandbox) -> None:
    pid = await frozen(sandbox)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(decode(sandbox, wav(voice())))
        await until(lambda: "1 decoding" in repr(sandbox))
        task.cancel()
    await until(lambda: is_gone(pid))
    np.testing.assert_array_equal(await decode(sandbox, wav(voice(1))), alone(wav(voice(1))))


async def test_a_recording_left_early_gives_its_process_back(mp3: bytes) -> None:
    async with open_sandbox(DecodeLimits(workers=1, block_seconds=0.5)) as sandbox:
        async with sandbox.open(io.BytesIO(mp3)) as recording:
            assert await recording.read() is not None
            before = pids(sandbox)
        assert await recording.read() is None
        np.testing.assert_array_equal(await decode(sandbox, mp3), alone(mp3))
        assert pids(sandbox) == before


async def test_good_and_broken_files_at_once_give_what_they_give_alone(mp3: bytes) -> None:
    kinds = [wav(voice()), mp3, b"", b"\x00" * 5000, mp3[:20000], wav(voice(0.5, 8000), 8000), b"#EXTM3U\n/etc/hosts\n"]
    async with open_sandbox(DecodeLimits(workers=2, max_open=64, block_seconds=1.0)) as sandbox:
        expected = [await outcome(sandbox, data) for data in kinds]
        assert await asyncio.gather(*(outcome(sandbox, kinds[n % 7]) for n in range(64))) == [
            expected[n % 7] for n in range(64)
        ]
        assert repr(sandbox) == "<Sandbox: 0 open of 64, 0 long, 0 live, 0 decoding of 2, 2 processes, 2 idle>"


async def test_a_long_recording_between_its_blocks_does_not_hold_up_a_short_one(mp3: bytes) -> None:
    limits = DecodeLimits(workers=1, block_seconds=0.5)
    async with open_sandbox(limits) as sandbox, sandbox.open(io.BytesIO(mp3)) as long:
        first = await long.read()
        assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE
        second = await long.read()
        np.testing.assert_array_equal([first, second], alone(mp3)[:SAMPLE_RATE].reshape(2, -1))


async def test_more_than_max_open_are_refused_at_once() -> None:
    async with open_sandbox(DecodeLimits(workers=1, max_open=1)) as sandbox:
        async with sandbox.open(io.BytesIO(wav(voice()))):
            with pytest.raises(OverloadedError):
                await decode(sandbox, wav(voice()))
        assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE


async def test_more_than_max_long_are_refused_and_short_ones_are_not() -> None:
    async with open_sandbox(DecodeLimits(workers=1, max_long=1, block_seconds=1.0)) as sandbox:
        async with sandbox.open(io.BytesIO(wav(voice()))):
            with pytest.raises(OverloadedError):
                await decode(sandbox, wav(voice()))
            assert len(await decode(sandbox, wav(voice(0.5)))) == SAMPLE_RATE // 2
        assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE


async def test_an_idle_process_that_died_is_replaced_and_no_file_is_blamed(sandbox: Sandbox) -> None:
    os.kill(await frozen(sandbox), signal.SIGKILL)
    await until(lambda: not sandbox._idle[0].is_alive())
    assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE


async def test_the_nursery_is_started_again_should_it_die(sandbox: Sandbox) -> None:
    await decode(sandbox, wav(voice()))
    nursery = sandbox._nursery._process.pid
    os.kill(nursery, signal.SIGKILL)
    await until(lambda: not sandbox._idle[0].is_alive() and sandbox._nursery._process.poll() is not None)
    assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE
    assert sandbox._nursery._process.pid != nursery


async def test_processes_that_cannot_start_are_not_the_callers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
        for _ in range(3):
            with pytest.raises(NautilusError, match="do not start"):
                await decode(sandbox, wav(voice()))


async def test_a_process_whose_greeting_nobody_waited_for_to_the_end_is_not_used_again() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    with ours, theirs:
        child = Child(1, ours, lambda _: None)
        assert child.is_free()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await child.greet()
        assert not child.is_free()


async def test_signals_meant_for_the_server_do_not_end_its_processes(sandbox: Sandbox) -> None:
    await decode(sandbox, wav(voice()))
    started = [sandbox._nursery._process.pid, *pids(sandbox)]
    for pid, number in product(started, (signal.SIGINT, signal.SIGTERM)):
        os.kill(pid, number)
    assert len(await decode(sandbox, wav(voice()))) == 2 * SAMPLE_RATE
    assert [sandbox._nursery._process.pid, *pids(sandbox)] == started


async def test_everything_is_ended_at_exit() -> None:
    async with open_sandbox(DecodeLimits(workers=2, block_seconds=0.5)) as sandbox:
        await asyncio.gather(*(decode(sandbox, wav(voice())) for _ in range(2)))
        started = [sandbox._nursery._process.pid, *pids(sandbox)]
    assert len(started) == 3
    assert all(is_gone(pid) for pid in started)


SERVER = """
from tests.audio.test_sandbox import *
async def main():
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
        await decode(sandbox, wav(voice()))
        print(sandbox._nursery._process.pid, *pids(sandbox), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_everything_ends_with_a_server_that_is_killed() -> None:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as server:  # noqa: ASYNC220
        assert server.stdout is not None
        started = [int(word) for word in server.stdout.readline().split()]
        server.kill()
    assert len(started) == 2
    await until(lambda: all(is_gone(pid) for pid in started))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_process_has_no_more_than_decoding_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_API_KEYS", "secret")
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox:
        await decode(sandbox, wav(voice()))
        (pid,) = pids(sandbox)
        process = Path(f"/proc/{pid}")
        limits = {line[:25].strip(): line.split()[-3] for line in (process / "limits").read_text().splitlines()[1:]}
        await until(lambda: sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2", "3"])
        assert b"NAUTILUS" not in (process / "environ").read_bytes()
        assert (limits["Max open files"], limits["Max file size"], limits["Max core file size"]) == ("5", "0", "0")
        assert "Threads:\t1\n" in (process / "status").read_text()


@pytest.mark.speech
@pytest.mark.skipif(not real_clips(), reason="the folder of real speech is missing")
async def test_every_real_file_gives_what_the_decoder_gives() -> None:
    async with open_sandbox(DecodeLimits(max_open=200)) as sandbox:

        async def check(clip: Clip) -> None:
            data = clip.path.read_bytes()
            found = await outcome(sandbox, data)
            assert found == alone(data).tobytes() if isinstance(found, bytes) else not clip.valid, clip.path

        await asyncio.gather(*map(check, real_clips()))
