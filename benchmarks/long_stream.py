"""One live stream of many hours, fed as fast as it is heard: is it in its last hour as it was in its first.

    python benchmarks/long_stream.py --speech FOLDER [--hours 8]

FOLDER has `dev_en.jsonl` in NeMo's manifest form; without it the sample is used. Every hour plays the same recordings,
1.5 s of silence after each, then asks for the utterance's end, and waits until that is told. An hour takes about half a
minute on two cores. Memory and processor time are those of all of the server's processes.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from websockets.sync.client import ClientConnection, connect

from engine_alone import decode
from nautilus.types import SAMPLE_RATE, Waveform
from process import Server, processor_seconds, resident_megabytes, serve
from run import find_clips

HOUR = 3600.0
PAUSE = 1.5
"""Seconds of silence after each recording."""
PIECE = 3200
"""Bytes in a message: a tenth of a second."""
PATIENCE = 30.0
"""Seconds that an utterance may take."""


@dataclass(slots=True)
class Hour:
    """What one hour of the stream measured."""

    audio: float = 0.0
    """Seconds."""
    took: float = 0.0
    processor: float = 0.0
    """Seconds, of all processes."""
    megabytes: float = 0.0
    """Resident at its end."""
    waits: list[float] = field(default_factory=list)
    """Seconds from the last sample of an utterance to its end being told."""
    texts: list[str] = field(default_factory=list)

    def wait(self, share: float) -> float:
        """Return the milliseconds that `share` of the utterances stay under."""
        return 1000 * sorted(self.waits)[min(len(self.waits) - 1, int(share * len(self.waits)))]


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--hours", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=HOUR, help="of an hour, to try it")
    arguments = parser.parse_args()
    waveforms = decode(find_clips(arguments.speech))
    with serve() as server, opened(server) as stream:
        hours = []
        for number in range(arguments.hours):
            hours.append(play(waveforms, arguments.seconds, stream, server))
            print(f"hour {number + 1}: {hours[-1].took:.0f} s, {hours[-1].megabytes:.0f} MB", flush=True)
    Console().print(table(hours))
    alike = sum(one == other for one, other in zip(hours[0].texts, hours[-1].texts, strict=True))
    print(f"{alike} of {len(hours[0].texts)} utterances have the same text in the first and the last hour.")


@contextmanager
def opened(server: Server) -> Iterator[ClientConnection]:
    """Open the stream."""
    url = f"{server.url.replace('http', 'ws')}/v1/stream?delay=xhigh"
    with connect(url, compression=None, max_size=None) as stream:
        stream.recv(timeout=PATIENCE)
        yield stream


def play(waveforms: list[Waveform], seconds: float, stream: ClientConnection, server: Server) -> Hour:
    """Play recordings for an hour of the stream."""
    hour = Hour()
    started, before = time.perf_counter(), processor_seconds(server.pid)
    number = 0
    while hour.audio < seconds:
        sound = pcm(waveforms[number % len(waveforms)])
        hour.audio += len(sound) / 2 / SAMPLE_RATE
        utter(sound, stream, hour)
        number += 1
    hour.took = time.perf_counter() - started
    hour.processor = processor_seconds(server.pid) - before
    hour.megabytes = resident_megabytes(server.pid)
    return hour


def utter(sound: bytes, stream: ClientConnection, hour: Hour) -> None:
    """Say one thing, and wait until its end is told."""
    for start in range(0, len(sound), PIECE):
        stream.send(sound[start : start + PIECE])
    stream.send('{"type": "commit"}')
    sent = time.perf_counter()
    finals = []
    while (event := json.loads(stream.recv(timeout=PATIENCE)))["type"] != "committed":
        if event["type"] == "final":
            finals.append(event["text"])
    hour.waits.append(time.perf_counter() - sent)
    hour.texts.append(" ".join(finals))


def pcm(waveform: Waveform) -> bytes:
    """Return a recording and the silence after it, as a client sends them."""
    sound = np.concatenate([waveform, np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)])
    return bytes((np.clip(sound, -1, 1) * 32_767).astype("<i2"))


def table(hours: list[Hour]) -> Table:
    """Return all hours for people."""
    columns = ("hour", "times real time", "ms of processor per s", "MB", "wait p50 ms", "p95 ms", "utterances", "words")
    table = Table(*columns, box=None)
    for number, hour in enumerate(hours, 1):
        table.add_row(
            str(number),
            f"{hour.audio / hour.took:.0f}",
            f"{1000 * hour.processor / hour.audio:.2f}",
            f"{hour.megabytes:.0f}",
            *(f"{hour.wait(share):.0f}" for share in (0.5, 0.95)),
            str(len(hour.waits)),
            str(sum(len(text.split()) for text in hour.texts)),
        )
    return table


if __name__ == "__main__":
    main()
