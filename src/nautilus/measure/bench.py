"""Load against a server: throughput, latency, errors, and transcripts that changed under load."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from rich.table import Table

from nautilus.errors import BadRequestError
from nautilus.measure.client import Address, Connection, Target, upload

OK = 200
CLOSED = (401, 403)
"""Answers to who may not ask at all."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, its prepared request, and what the server says to it when it is alone."""

    request: bytes
    seconds: float
    text: str


@dataclass(slots=True)
class Round:
    """What one number of clients measured."""

    clients: int
    wall: float = 0.0
    """Seconds from the first request to the last answer."""
    audio: float = 0.0
    """Seconds of audio answered well."""
    latencies: list[float] = field(default_factory=list)
    """Seconds, of good answers."""
    errors: Counter[str] = field(default_factory=Counter)
    mismatches: int = 0
    """Good answers whose transcript differs from the one given when alone."""

    @property
    def throughput(self) -> float:
        """Seconds of audio per second."""
        return self.audio / self.wall if self.wall else 0.0

    def percentile(self, share: float) -> float:
        """Return the latency in seconds that `share` of the good answers stay under."""
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


async def run_rounds(server: Target, paths: Sequence[Path], clients: Sequence[int], seconds: float) -> list[Round]:
    """Ask for each file alone, then load the server with each number of clients in turn."""
    address = Address.of(server.url)
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    try:
        clips = await _alone(server, files)
    except OSError as error:
        raise BadRequestError(f"There is no server at {server.url}: {error}") from error
    if not clips:
        raise BadRequestError("None of the files could be transcribed.")
    return [await _round(address, clips, number, seconds) for number in clients]


def rounds_table(rounds: Sequence[Round]) -> Table:
    """Return the rounds for people."""
    table = Table("clients", "audio s/s", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors", "changed", box=None)
    for one in rounds:
        table.add_row(
            str(one.clients),
            f"{one.throughput:.1f}",
            f"{len(one.latencies) / one.wall:.1f}",
            *(f"{1000 * one.percentile(share):.0f}" for share in (0.5, 0.95, 0.99)),
            ", ".join(f"{number} x {kind}" for kind, number in one.errors.items()) or "0",
            str(one.mismatches),
        )
    return table


async def _alone(server: Target, files: Sequence[Path]) -> list[Clip]:
    address = Address.of(server.url)
    connection = Connection(address)
    clips = []
    for file in files:
        reply = await connection.ask(upload(address, "/transcribe", file, {}, server.headers))
        if reply.status in CLOSED:
            raise BadRequestError(str(json.loads(reply.body)["error"]["message"]))
        if reply.status == OK:
            document = json.loads(reply.body)
            request = upload(address, "/v1/audio/transcriptions", file, {}, server.headers)
            clips.append(Clip(request, document["audio"]["duration"], document["text"]))
    connection.close()
    return clips


async def _round(address: Address, clips: Sequence[Clip], clients: int, seconds: float) -> Round:
    result = Round(clients)
    turns = count()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(_client(address, clips, turns, started + seconds, result))
    result.wall = time.perf_counter() - started
    return result


async def _client(address: Address, clips: Sequence[Clip], turns: Iterator[int], until: float, result: Round) -> None:
    connection = Connection(address)
    while (asked := time.perf_counter()) < until:
        clip = clips[next(turns) % len(clips)]
        try:
            reply = await connection.ask(clip.request)
        except (OSError, asyncio.IncompleteReadError) as error:
            result.errors[type(error).__name__] += 1
            continue
        if reply.status != OK:
            result.errors[str(reply.status)] += 1
            continue
        result.latencies.append(time.perf_counter() - asked)
        result.audio += clip.seconds
        result.mismatches += json.loads(reply.body)["text"] != clip.text
    connection.close()
