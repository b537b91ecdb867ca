"""Two hundred clients that do everything wrong, beside three that speak: nothing leaks, and nobody else notices."""

import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import uvicorn
from websockets.asyncio.client import connect

from nautilus.assembly import Core
from nautilus.errors import NautilusError
from nautilus.runtime.queue import BatchLimits
from nautilus.settings import Settings
from nautilus.stream.session import StreamLimits
from nautilus.web.app import create_app
from nautilus.web.protocols import ServerConfig
from tests.engines.sounds import noise, sample, silence
from tests.web.test_resume import said
from tests.web.test_stream import pcm

TEXT, BINARY = 1, 2
SPEECH = pcm(np.concatenate([sample(), silence(1.2)] * 3))
PIECE = 3200
"""Bytes: a tenth of a second."""
NOISE = [pcm(noise(1.0, seed)) for seed in range(4)]
SILENCE = pcm(silence(1.0))


def frame(kind: int, payload: bytes, said_length: int | None = None) -> bytes:
    """Return a client's frame, which may lie about its length. It is masked with zeros, which change nothing."""
    length = len(payload) if said_length is None else said_length
    size = bytes([0x80 | length]) if length < 126 else b"\xff" + struct.pack(">Q", length)
    return bytes([0x80 | kind]) + size + bytes(4) + payload


class Wire:
    """A connection on which anything can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random) -> None:
        self.reader = reader
        self.writer = writer
        self.chance = chance

    async def send(self, *data: bytes) -> None:
        for part in data:
            self.writer.write(part)
            await self.writer.drain()

    async def speak(self, sound: bytes) -> None:
        """Send sound in messages of any size."""
        while sound:
            size = self.chance.randint(1, 9000)
            await self.send(frame(BINARY, sound[:size]))
            sound = sound[size:]
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Take what comes for a while, or until the server closes; its goodbye is not answered."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self.reader.read()

    def reset(self) -> None:
        """Break off without a goodbye."""
        opened: socket.socket = self.writer.get_extra_info("socket")
        with suppress(OSError):  # closed already
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault: TypeAlias = Callable[[Wire], Awaitable[None]]


async def noise_and_a_close(wire: Wire) -> None:
    await wire.speak(wire.chance.choice(NOISE))
    await wire.send(frame(8, struct.pack(">H", 1000)))


async def silence_and_a_reset(wire: Wire) -> None:
    await wire.speak(SILENCE)


async def speech_and_a_cut_within_a_frame(wire: Wire) -> None:
    await wire.speak(SPEECH[: wire.chance.randrange(64_000)])
    await wire.send(frame(BINARY, bytes(wire.chance.randrange(9000)), said_length=9001))


async def garbage_for_frames(wire: Wire) -> None:
    await wire.send(wire.chance.randbytes(5000))
    await wire.end()


async def a_frame_larger_than_memory(wire: Wire) -> None:
    await wire.send(frame(BINARY, bytes(1000), said_length=2**40))
    await wire.end()


async def minutes_of_sound_at_once(wire: Wire) -> None:
    await wire.send(frame(BINARY, bytes(1024**2)))


async def words_that_nobody_knows(wire: Wire) -> None:
    unknown = [b"hello?", b"{}", b"[1, 2", b"\xff\xfe", b'{"type": "end"', b'{"type": ["end"]}', b"[" * 5000]
    await wire.send(frame(TEXT, wire.chance.choice(unknown)))
    await wire.end()


async def commits_without_end(wire: Wire) -> None:
    for _ in range(50):
        await wire.send(frame(BINARY, b"\x01"), frame(TEXT, b'{"type": "commit"}'))


async def an_end_that_nobody_waits_for(wire: Wire) -> None:
    await wire.speak(NOISE[0])
    await wire.send(frame(TEXT, b'{"type": "end"}'))


async def nothing_at_all(wire: Wire) -> None:
    await asyncio.sleep(wire.chance.random() / 2)


async def a_part_of_a_message(wire: Wire) -> None:
    await wire.send(bytes([BINARY]) + frame(BINARY, bytes(100))[1:])  # says that more parts follow
    wire.writer.close()


FAULTS: tuple[Fault | None, ...] = (
    None,
    noise_and_a_close,
    silence_and_a_reset,
    speech_and_a_cut_within_a_frame,
    garbage_for_frames,
    a_frame_larger_than_memory,
    minutes_of_sound_at_once,
    words_that_nobody_knows,
    commits_without_end,
    an_end_that_nobody_waits_for,
    nothing_at_all,
    a_part_of_a_message,
)


async def do_wrong(port: int, number: int, fault: Fault | None, all_open: asyncio.Barrier) -> None:
    """Open a stream, do as `fault` does once all are open, and break off; without a fault, only half open it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wire = Wire(reader, writer, random.Random(number))  # noqa: S311 - no secret
    query = "encoding=webm" if number % 40 == 3 else "delay=xhigh"
    request = (
        f"GET /v1/stream?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    try:
        await wire.send(request if fault else request[: wire.chance.randrange(len(request))])
        if fault:
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await all_open.wait()
        if fault:
            await fault(wire)
        await asyncio.sleep(wire.chance.choice([0.0, 0.1, 0.5]))  # a reset takes back what was not read yet
    except ConnectionError:
        pass  # the server was faster
    finally:
        wire.reset()


async def wrong_ones(port: int, count: int, held: Callable[[], int]) -> None:
    """Have so many open at once, and all go wrong."""
    all_open = asyncio.Barrier(count + 1)
    faults = [FAULTS[number % len(FAULTS)] for number in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for number, fault in enumerate(faults):
            tasks.create_task(do_wrong(port, number, fault, all_open))
        await until(lambda: held() >= count - faults.count(None))
        await all_open.wait()


async def speak(port: int, pause: float) -> list[list[tuple[str, float, float]]]:
    """Say something well, and return the words and times that come back."""
    async with connect(f"ws://127.0.0.1:{port}/v1/stream?delay=xhigh", compression=None) as connection:
        for start in range(0, len(SPEECH), PIECE):
            await connection.send(SPEECH[start : start + PIECE])
            await asyncio.sleep(pause)
        await connection.send(json.dumps({"type": "end"}))
        return said([json.loads(message) async for message in connection])


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[int, Core]]:
    """Run the whole server on this event loop."""
    failures: list[NautilusError] = []
    app = create_app(settings, failures.append)
    server = uvicorn.Server(ServerConfig(app, settings.http, port=0, timeout_graceful_shutdown=2))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await until(lambda: server.started)
        core: Core = app.state.core
        await until(lambda: bool(failures or core.pool.loaded()))
        assert not failures
        yield server.servers[0].sockets[0].getsockname()[1], core
        server.should_exit = True


async def until(so: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not so():  # noqa: ASYNC110 - of many things
            await asyncio.sleep(0.02)


def megabytes() -> float:
    """Return the resident memory of this process and of all below it."""
    below = [os.getpid()]
    for process in below:
        below += [
            int(one)
            for task in Path(f"/proc/{process}/task").iterdir()
            for one in (task / "children").read_text().split()
        ]
    pages = [int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in below]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1024**2


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_clients_that_do_everything_wrong_harm_nobody_and_leave_nothing(settings: Settings) -> None:
    patient = settings.model_copy(
        update={"stream": StreamLimits(resume=1.0, most_kept=8), "batch": BatchLimits(stream_load=100.0)}
    )
    async with served(patient) as (port, core):
        places = core.pool.standings()[0].lane.state().places  # type: ignore[union-attr]  # it is loaded

        def held() -> int:
            return core.conversations.held

        def nothing_left() -> bool:
            counts = (core.conversations.held, core.conversations.kept, places.open.total())
            new = {task.get_name() for task in asyncio.all_tasks() - tasks_before}
            return counts == (0, 0, 0) and all("nautilus-en-4m" in name for name in new)  # the model's begin late

        tasks_before = asyncio.all_tasks()
        alone = await speak(port, 0.0)
        assert all(len(words) > 8 for words in alone)
        for _ in range(2):  # what the allocators keep, they keep from here on
            await wrong_ones(port, 200, held)
            await until(nothing_left)
        memory_before = megabytes()

        async with asyncio.TaskGroup() as tasks:
            good = [tasks.create_task(speak(port, 0.03)) for _ in range(3)]
            tasks.create_task(wrong_ones(port, 200, held))
        assert [one.result() for one in good] == [alone] * 3
        await until(nothing_left)
        assert megabytes() - memory_before < 30
        assert "0 live" in repr(core.sandbox)
        assert await speak(port, 0.0) == alone
