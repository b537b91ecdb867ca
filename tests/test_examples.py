"""The examples of the documents run as they are."""

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.audio.media import RECORDERS, record
from tests.conftest import ROOT
from tests.engines.sounds import sample, silence
from tests.web.test_stream import HEARD

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    path = tmp_path / "speech.webm"
    path.write_bytes(record(np.concatenate([sample(), silence(1.2)] * 2), RECORDERS["webm"]))
    return path


@asynccontextmanager
async def bad_line(url: str, seed: int) -> AsyncIterator[tuple[str, list[int]]]:
    """Carry connections to a server, and break each after some bytes; its address, and where it broke."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    cuts: list[int] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        left = chance.randint(300, 12_000) if len(cuts) < 8 else 10**9

        async def up() -> None:
            nonlocal left
            while left > 0 and (data := await reader.read(min(left, 1000))):
                left -= len(data)
                back.write(data)
            if left <= 0:
                cuts.append(left)
                writer.transport.abort()
                back.transport.abort()

        async def down() -> None:
            with suppress(OSError):
                while data := await there.read(1000):
                    writer.write(data)
            writer.close()

        with suppress(OSError):
            await asyncio.gather(up(), down())
        back.close()

    async with await asyncio.start_server(carry, "127.0.0.1", 0) as line:
        port = line.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}", cuts


async def output(*command: str) -> tuple[str, str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    told, said = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0, said.decode()
    return told.decode(), said.decode()


async def test_the_python_example_prints_what_was_said_once_over_a_bad_line(server: str, spoken: Path) -> None:
    async with bad_line(server, 1) as (address, cuts):
        told, said = await output(sys.executable, str(EXAMPLES / "live.py"), str(spoken), address)
    assert len(cuts) == 8
    assert said.count("coming back") >= len(cuts)
    direct, _ = await output(sys.executable, str(EXAMPLES / "live.py"), str(spoken), server.replace("http", "ws"))
    assert told == direct
    assert told.splitlines()[0] == HEARD


def node() -> str:
    found = shutil.which("node")
    if not found:
        pytest.skip("Node is not here")
    return found


async def test_the_node_example_prints_what_was_said(server: str, spoken: Path) -> None:
    found = node()
    command = [str(EXAMPLES / "live.mjs"), str(spoken), server.replace("http", "ws")]
    major = int((await output(found, "--version"))[0].lstrip("v").partition(".")[0])
    if major < 22:
        await output(found, "--check", command[0])
        # Its WebSocket is there from version 22 on; 20 has the same one behind a switch.
        command.insert(0, "--experimental-websocket")
    told, _ = await output(found, *command)
    assert told.splitlines()[0] == HEARD


async def test_the_script_of_the_browser_s_example_is_javascript(tmp_path: Path) -> None:
    page = (EXAMPLES / "microphone.html").read_text(encoding="utf-8")
    script = tmp_path / "script.mjs"
    script.write_text(page.partition('<script type="module">')[2].partition("</script>")[0])
    await output(node(), "--check", str(script))
