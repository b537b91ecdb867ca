"""Random conversations with `/v1/stream` and `/v1/realtime`, from right to hardly a WebSocket, byte by byte.

The same seed and number make the same bytes. What comes back is judged: it ends, and no fault of the server is told.
"""

import asyncio
import base64
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

Make: TypeAlias = Callable[[Random], bytes]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE: Final = 60.0
"""Seconds after which a conversation counts as one that never ends."""
FAULTS: Final = (1011, 1006)
TYPES: Final = (
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "session.update",
    "transcription_session.update",
    "commit",
    "end",
    "response.create",
)
QUERIES: Final = (
    "stream",
    "stream?encoding=mulaw&rate=8000",
    "stream?encoding=auto",
    "stream?encoding=webm",
    "stream?encoding=mp4",
    "stream?delay=xhigh&language=en",
    "realtime",
    "realtime?intent=transcription",
)
UPGRADE: Final = (
    "GET /v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXTS: Final = ("", "x", "é\0", "audio/pcm", "server_vad", "whisper-1")
WORDS: Final[tuple[Any, ...]] = (*TEXTS, None, True, 0, -1, 1e308, 24_000, [], {}, [[]], {"type": []})
NAMES: Final = (
    "type",
    "event_id",
    "audio",
    "session",
    "input",
    "format",
    "rate",
    "transcription",
    "model",
    "language",
    "delay",
    "turn_detection",
    "threshold",
    "silence_duration_ms",
    "prefix_padding_ms",
    "include",
    "input_audio_format",
    "input_audio_transcription",
)


@dataclass(slots=True)
class Report:
    """What came of a run."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.outcomes.total()} conversations"]
        lines += [f"  {how}: {many}" for how, many in self.outcomes.most_common()]
        return "\n".join([*lines, f"  broken promises: {len(self.failures)}", *self.failures])


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, said: int | None = None) -> bytes:
    """Return a client's frame (RFC 6455, 5.2); `said` is the length that it claims."""
    length = len(payload) if said is None else said
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", length & ((1 << 63) - 1))
    return head + bytes(4) + payload  # masked with zeros


def _json(chance: Random) -> bytes:
    event: Any = _anything(chance, 3)
    if chance.random() < 0.9:
        event = {"type": chance.choice(TYPES)} | (event if isinstance(event, dict) else {"session": event})
    if chance.random() < 0.5 and isinstance(event, dict):
        event["audio"] = base64.b64encode(chance.randbytes(chance.choice((0, 1, 2, 999, 9600)))).decode()
    text = json.dumps(event)
    if chance.random() < 0.1:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.choice(('"', "\\ud800", "[" * 5000, "\0", "NaN")) + text[place:]
    return frame(TEXT, text.encode())


def _anything(chance: Random, depth: int) -> Any:
    if depth and chance.random() < 0.7:
        names = chance.sample(NAMES, chance.randint(0, 5))
        return {name: _anything(chance, depth - 1) for name in names}
    return chance.choice(WORDS)


def _sound(chance: Random) -> bytes:
    return frame(BINARY, chance.randbytes(chance.choice((0, 1, 3, 320, 3200, 65_536, 300_000))))


def _text(chance: Random) -> bytes:
    return frame(TEXT, chance.choice((b"", b"\xff\xfe", b"{", b"null", "ä".encode(), chance.randbytes(50))))


def _fragments(chance: Random) -> bytes:
    many = chance.choice((1, 3, 50, 3000))
    first = frame(chance.choice((TEXT, BINARY, 0)), chance.randbytes(2), fin=False)
    middle = frame(0, chance.randbytes(chance.choice((0, 1))), fin=False) * many
    return first + middle + frame(0, b"", fin=chance.random() < 0.7)


def _control(chance: Random) -> bytes:
    opcode = chance.choice((PING, PING, PONG, CLOSE))
    return frame(opcode, chance.randbytes(chance.choice((0, 1, 2, 125, 126)))) * chance.choice((1, 1, 100))


def _wrong(chance: Random) -> bytes:
    opcode, reserved = chance.randrange(16), chance.choice((0, 1, 2, 4, 7))
    return frame(opcode, chance.randbytes(5), fin=chance.random() < 0.7, reserved=reserved)


def _lie(chance: Random) -> bytes:
    said = chance.choice((126, 65_536, 1 << 24, 1 << 31, 1 << 62))
    return frame(chance.choice((TEXT, BINARY)), chance.randbytes(20), said=said)


def _noise(chance: Random) -> bytes:
    return chance.randbytes(chance.randint(1, 200))


def _half(chance: Random) -> bytes:
    whole = _json(chance)
    return whole[: chance.randrange(len(whole))]


RIGHT: Final[tuple[Make, ...]] = (_json, _json, _json, _sound, _sound)
KINDS: Final = (*RIGHT, _text, _fragments, _control, _wrong, _lie, _noise, _half)


def conversation(seed: int, number: int) -> tuple[str, list[bytes], bool]:
    """Return where to, what is sent piece by piece, and whether the client then hangs up without a word."""
    chance = Random(f"{seed} {number}")  # noqa: S311 - no secret
    kinds = chance.sample(KINDS, chance.randint(1, 4))
    data = b"".join(chance.choice(kinds)(chance) for _ in range(chance.randint(1, 12)))
    pieces = [data] if chance.random() < 0.5 else list(_cut(data, chance))
    return chance.choice(QUERIES), pieces, chance.random() < 0.3


def _cut(data: bytes, chance: Random) -> Iterator[bytes]:
    while data:
        size = chance.choice((1, 5, 100, 70_000))
        yield data[:size]
        data = data[size:]


async def fuzz_frames(url: str, seed: int, numbers: range, at_once: int = 8) -> Report:
    """Hold the conversations of these numbers, some at once."""
    report, todo = Report(seed), iter(numbers)

    async def work() -> None:
        for number in todo:
            try:
                async with asyncio.timeout(PATIENCE):
                    outcome, fault = await _converse(url, *conversation(seed, number))
            except TimeoutError:
                outcome = fault = "never ended"
            report.outcomes[outcome] += 1
            if fault:
                report.failures.append(f"  number {number}: {fault}")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work())
    return report


class RefusedError(Exception):
    """The server did not open a WebSocket."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def handshake(url: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to `/v1/…` on which frames may be written."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(UPGRADE.format(path=path, host=place.netloc).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head:
        writer.close()
        raise RefusedError(int(head.split()[1]))
    return reader, writer


async def _converse(url: str, path: str, pieces: list[bytes], leaves: bool) -> tuple[str, str]:
    try:
        reader, writer = await handshake(url, path)
    except RefusedError as refused:
        return str(
            refused.status
        ), "" if refused.status < 500 or refused.status == 503 else f"refused: {refused.status}"
    try:
        async with asyncio.TaskGroup() as tasks:
            hearing = tasks.create_task(_heard(reader))
            with suppress(OSError):  # the server may have ended it
                await _send(writer, pieces, leaves=leaves)
        return _judge(hearing.result(), leaves=leaves)
    finally:
        writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: list[bytes], *, leaves: bool) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    if leaves:
        writer.transport.abort()
    else:
        writer.write(frame(CLOSE, struct.pack(">H", 1000)))
        writer.write_eof()


async def _heard(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    with suppress(OSError):
        while piece := await reader.read(65_536):
            data += piece
    return bytes(data)


def _judge(data: bytes, *, leaves: bool) -> tuple[str, str]:
    code: int | None = None
    for opcode, payload in _frames(data):
        if opcode == CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if len(payload) > 1 else 1005
        elif opcode == TEXT:
            event = json.loads(payload)
            if event["type"] == "error" and event["error"].get("code") == "internal_error":
                return "internal_error", payload.decode()
    outcome = "left" if leaves and code is None else f"close {code}"
    return outcome, outcome if code in FAULTS else ""


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Give a server's frames, which are whole and not masked; what was cut off at the end is left out."""
    place = 0
    while place + 2 <= len(data):
        opcode, length = data[place] & 15, data[place + 1] & 127
        place += 2
        if length == 126:
            length = int.from_bytes(data[place : place + 2], "big")
            place += 2
        elif length == 127:
            length = int.from_bytes(data[place : place + 8], "big")
            place += 8
        if place + length > len(data):
            return
        yield opcode, data[place : place + length]
        place += length
