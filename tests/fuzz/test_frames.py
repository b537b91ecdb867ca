"""Random conversations beside one that is right: what that one hears stays the same, and nothing is left of the others.

`make fuzz-frames` holds thousands; here are some, always the same.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from tests.engines.sounds import sample, silence
from tests.fuzz.frames import BINARY, PING, frame, fuzz_frames, handshake
from tests.fuzz.serving import Serving, serving
from tests.web.test_stream import HEARD, finals, pcm

SOUND = pcm(np.concatenate([sample(), silence(1.5)]))


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(STREAM__RESUME="0", DRAIN_SECONDS="1") as server:
        yield server


async def neighbour(url: str) -> list[str]:
    """Hold a conversation that is right, while others are not."""
    async with connect(
        f"{url.replace('http', 'ws')}/v1/stream?delay=xhigh", compression=None, proxy=None
    ) as connection:
        for place in range(0, len(SOUND), 3200):
            await connection.send(SOUND[place : place + 3200])
            await asyncio.sleep(0.02)
        await connection.send('{"type": "end"}')
        return finals([json.loads(message) async for message in connection])


@pytest.mark.timeout(120)
async def test_no_conversation_harms_another(server: Serving) -> None:
    assert await neighbour(server.url) == [HEARD]
    before = server.descriptors()
    async with asyncio.TaskGroup() as tasks:
        beside = tasks.create_task(neighbour(server.url))
        fuzzing = tasks.create_task(fuzz_frames(server.url, seed=1, numbers=range(150)))
    assert fuzzing.result().failures == []
    assert beside.result() == [HEARD]
    assert server.faults() == []
    async with httpx.AsyncClient(base_url=server.url) as client:
        while (await client.get("/health/ready")).json()["streams"]["open"]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    assert server.descriptors() <= before + 4  # decoders at rest, and connections that are kept alive


async def flood(url: str, first: bytes, again: bytes, megabytes: int) -> None:
    """Send the same again and again, and read nothing, until it is all sent or the server has had enough."""
    _, writer = await handshake(url, "stream")
    writer.write(first)
    with suppress(OSError, TimeoutError):
        for _ in range(megabytes * 1024**2 // len(again)):
            writer.write(again)
            async with asyncio.timeout(5):
                await writer.drain()
    writer.transport.abort()


MIB = 1024**2
FLOODS = {
    "pings": (b"", frame(PING, bytes(125)) * 512, 20 * MIB),
    "empty fragments": (frame(BINARY, b"", fin=False), frame(0, b"", fin=False) * 8192, 20 * MIB),
    "empty messages": (b"", frame(BINARY, b"") * 8192, 100 * MIB),  # of one reading of the socket, some 40,000
}
"""What is sent once, what then goes on, and how much memory that may take."""


@pytest.mark.parametrize("kind", FLOODS)
async def test_who_sends_much_and_reads_nothing_takes_no_memory(server: Serving, kind: str) -> None:
    first, again, growth = FLOODS[kind]
    before = server.memory()
    await flood(server.url, first, again, megabytes=48)
    assert server.memory() < before + growth
    assert server.faults() == []
