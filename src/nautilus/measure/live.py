"""Live streams against a server, paced as people speak: how many it carries, and how late it answers.

A stream plays recordings one after the other, a pause after each. What counts is how long after the end of speech a
final comes, beyond the silence that has to pass before an utterance is over.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from nautilus.audio.decode import Decoder
from nautilus.errors import BadRequestError
from nautilus.measure.client import Target
from nautilus.types import SAMPLE_RATE, Waveform

PIECE: Final = 0.1
"""Seconds of sound in a message."""
PAUSE: Final = 1.5
"""Seconds of silence after each recording."""
SILENCE: Final = 0.7
"""Seconds after which the server ends an utterance, as it is unless it was set otherwise."""
PATIENCE: Final = 30.0
"""Seconds that the last answers may take."""
SPREAD: Final = 3.0
"""Seconds within which the speakers begin."""
GOLDEN: Final = 0.618034
"""Multiples of it are spread evenly: no two speakers are whole pieces apart, or all their pieces would come at once."""


@dataclass(slots=True)
class LiveRound:
    """What one number of streams measured."""

    streams: int
    lags: list[float] = field(default_factory=list)
    """Seconds from the end of speech to its final, beyond the silence."""
    partials: list[float] = field(default_factory=list)
    """Seconds from the start of speech, as the server tells it, to the first words."""
    errors: Counter[str] = field(default_factory=Counter)

    def lag(self, share: float) -> float:
        """Return the lag in seconds that `share` of the finals stay under."""
        return _percentile(self.lags, share)

    def first_words(self, share: float) -> float:
        """Return the seconds to the first words that `share` of the utterances stay under."""
        return _percentile(self.partials, share)


async def run_live(
    server: Target, files: Sequence[Path], streams: Sequence[int], seconds: float, delay: str
) -> list[LiveRound]:
    """Load the server with each number of streams in turn, each for so many seconds."""
    waveforms = [_read(file) for path in files for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if not waveforms:
        raise BadRequestError("There are no recordings to play.")
    streamed = replace(server, url=f"{server.url.replace('http', 'ws', 1)}/v1/stream?delay={delay}")
    return [await _round(streamed, waveforms, number, seconds) for number in streams]


def live_table(rounds: Sequence[LiveRound]) -> Table:
    """Return the rounds for people."""
    table = Table("streams", "finals", "final p50 ms", "p95 ms", "first words p50 ms", "p95 ms", "errors", box=None)
    for one in rounds:
        table.add_row(
            str(one.streams),
            str(len(one.lags)),
            *(f"{1000 * one.lag(share):.0f}" for share in (0.5, 0.95)),
            *(f"{1000 * one.first_words(share):.0f}" for share in (0.5, 0.95)),
            ", ".join(f"{number} x {kind}" for kind, number in one.errors.items()) or "0",
        )
    return table


async def _round(server: Target, waveforms: Sequence[Waveform], streams: int, seconds: float) -> LiveRound:
    result = LiveRound(streams)
    async with asyncio.TaskGroup() as tasks:
        for number in range(streams):
            # Speakers don't start together, and don't say the same.
            order = [*waveforms[number % len(waveforms) :], *waveforms[: number % len(waveforms)]]
            begin = SPREAD * (number * GOLDEN % 1)
            tasks.create_task(_stream(server, _script(order, seconds), begin, result), name=f"stream {number}")
    return result


def _script(waveforms: Sequence[Waveform], seconds: float) -> Waveform:
    """Return what one stream plays: whole recordings for at least so many seconds."""
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    played: list[Waveform] = []
    number = 0
    while sum(map(len, played)) < seconds * SAMPLE_RATE:
        played += [waveforms[number % len(waveforms)], pause]
        number += 1
    return np.concatenate(played)


async def _stream(server: Target, script: Waveform, begin: float, result: LiveRound) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    await asyncio.sleep(begin)
    sound = (np.clip(script, -1, 1) * 32_767).astype("<i2").tobytes()
    size = 2 * round(PIECE * SAMPLE_RATE)
    try:
        patience = len(script) / SAMPLE_RATE + PATIENCE
        opened = connect(server.url, compression=None, additional_headers=server.headers)
        async with opened as connection, asyncio.timeout(patience):
            await connection.recv()
            started = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_listen(connection, started, result))
                for number, start in enumerate(range(0, len(sound), size)):
                    await asyncio.sleep(max(0.0, started + (number + 1) * PIECE - time.perf_counter()))
                    await connection.send(sound[start : start + size])
                await connection.send('{"type": "end"}')
    except InvalidStatus as refusal:
        result.errors[str(refusal.response.status_code)] += 1
    except (OSError, WebSocketException, TimeoutError, ExceptionGroup) as error:
        result.errors[type(error).__name__] += 1


async def _listen(connection: Any, started: float, result: LiveRound) -> None:
    """Take a stream's events and note when they come."""
    waiting: float | None = None
    async for message in connection:
        event = json.loads(message)
        now = time.perf_counter() - started
        match event["type"]:
            case "speech_started":
                waiting = event["at"]
            case "partial" if waiting is not None:
                result.partials.append(now - waiting)
                waiting = None
            case "final":
                result.lags.append(now - event["words"][-1]["end"] - SILENCE)
                waiting = None
            case "error":
                result.errors[event["error"]["code"]] += 1


def _read(path: Path) -> Waveform:
    with path.open("rb") as file:
        decoder = Decoder(file)
        try:
            waveform = decoder.read(60.0)
        finally:
            decoder.close()
    if waveform is None:
        raise BadRequestError(f"{path} has no sound.")
    return waveform


def _percentile(values: Sequence[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")
