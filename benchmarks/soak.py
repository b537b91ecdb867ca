"""A server under everything at once, for a long time: `make soak`.

    python benchmarks/soak.py --speech FOLDER [--minutes 30] [--uploads 4] [--streams 6] [--markdown FILE]

Uploads (recordings of many formats, broken ones among them), live streams paced as people speak, jobs, and clients that
mean no good: they hang up in the middle of a body or of an answer, send what is no HTTP and no sound, open connections
and say nothing. Whatever is asked was asked once before, alone: an answer that is not the same is wrong. Memory, open
files and threads of all processes of the server are read all the while.
"""

import argparse
import asyncio
import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from engine_alone import decode
from jobs import place
from nautilus.measure.client import Address, Connection, upload
from nautilus.types import SAMPLE_RATE
from process import Server, descendants, resident_megabytes, serve
from report import Report

USER, HOSTILE = "a-user-of-the-soak", "a-hostile-one-of-the-soak"
KEYS: Final = [
    {"key": USER, "name": "user", "tenant": "user", "scopes": ["transcribe", "stream", "jobs"]},
    {"key": HOSTILE, "name": "hostile", "tenant": "hostile", "scopes": ["transcribe", "stream", "jobs"]},
]
PATH: Final = "/v1/audio/transcriptions"
PAUSE: Final = 1.5
"""Seconds of silence after each recording of a stream."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks at memory."""
QUARTERS: Final = 4
"""Of the run, which are told one by one: what grows from each to the next does not end."""

Answer: TypeAlias = tuple[int, str]
"""A status, and a text or the code of an error."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the server has at one moment, all of its processes together."""

    megabytes: float
    files: int
    threads: int


@dataclass(slots=True)
class Seen:
    """What came of it all."""

    began: float = field(default_factory=time.perf_counter)
    latencies: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By kind: when it ended, and seconds it took."""
    wrong: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)

    def took(self, kind: str, since: float) -> None:
        """Note how long something took."""
        now = time.perf_counter()
        self.latencies.setdefault(kind, []).append((now - self.began, now - since))

    def judge(self, what: str, answer: Answer | str, expected: Answer | str) -> None:
        """Note an answer that is not what it should be."""
        if answer != expected:
            self.wrong.append(f"{what}: {answer} instead of {expected}")
            print(self.wrong[-1], flush=True)


@dataclass(frozen=True, slots=True)
class Soak:
    """What the clients share."""

    server: Server
    seconds: float
    seen: Seen
    files: Sequence[Path]
    alone: dict[Path, Answer]
    clips: Sequence[Path]
    scripts: Sequence[bytes]
    said: Sequence[str]
    """What is heard in each script."""

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        return time.perf_counter() - self.seen.began > self.seconds

    @property
    def address(self) -> Address:
        """Where the server is."""
        return Address.of(self.server.url)


def with_key(request: bytes, key: str) -> bytes:
    """Return a prepared request that says who asks."""
    return request.replace(b"\r\nHost:", f"\r\nAuthorization: Bearer {key}\r\nHost:".encode(), 1)


async def ask(connection: Connection, address: Address, file: Path, key: str = USER) -> Answer:
    """Return what the server says to one upload."""
    reply = await connection.ask(with_key(upload(address, PATH, file, {}), key))
    document = json.loads(reply.body)
    return reply.status, document["text"] if reply.status == httpx.codes.OK else document["error"]["code"]


async def uploads(soak: Soak, chance: random.Random) -> None:
    """Ask, wait, ask again."""
    connection = Connection(soak.address)
    while not soak.over:
        file, began = chance.choice(soak.files), time.perf_counter()
        try:
            answer = await ask(connection, soak.address, file)
        except (OSError, asyncio.IncompleteReadError) as error:
            soak.seen.failed[f"upload: {error!r}"] += 1
            continue
        soak.seen.took("upload", began)
        soak.seen.judge(file.name, answer, soak.alone[file])
        await asyncio.sleep(chance.expovariate(10))
    connection.close()


async def streams(soak: Soak, chance: random.Random) -> None:
    """Speak, as fast as people do, in messages of any size."""
    while not soak.over:
        number = chance.randrange(len(soak.scripts))
        try:
            said = await speak(soak.server, soak.scripts[number], lambda: chance.randrange(1, 9_000), soak.seen)
        except (OSError, WebSocketException, TimeoutError, ExceptionGroup) as error:
            soak.seen.failed[f"stream: {error!r}"] += 1
            continue
        soak.seen.judge(f"stream {number}", said, soak.said[number])


async def speak(server: Server, sound: bytes, size: Callable[[], int], seen: Seen | None) -> str:
    """Return the finals of one stream, paced in real time if somebody looks on."""
    url = f"{server.url.replace('http', 'ws', 1)}/v1/stream?delay=high"
    said: list[str] = []
    async with connect(url, additional_headers={"Authorization": f"Bearer {USER}"}, compression=None) as connection:
        await connection.recv()
        began = time.perf_counter()

        async def listen() -> None:
            async for message in connection:
                event = json.loads(message)
                if event["type"] == "final":
                    said.append(event["text"])
                    if seen:
                        seen.took("live final", began + event["words"][-1]["end"] + 0.7)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen())
            sent = 0
            while sent < len(sound):
                piece = sound[sent : sent + size()]
                sent += len(piece)
                if seen:
                    await asyncio.sleep(max(0.0, began + sent / 2 / SAMPLE_RATE - time.perf_counter()))
                await connection.send(piece)
            await connection.send('{"type": "end"}')
    return " | ".join(said)


async def jobs(soak: Soak, chance: random.Random) -> None:
    """Hand in a few files at a time, wait for them, read the results, and delete them."""
    url = f"{soak.server.url}{PATH}/jobs"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {USER}"}, timeout=120) as client:
        while not soak.over:
            chosen = chance.choices(soak.clips, k=chance.randrange(1, 9))
            began = time.perf_counter()
            parts = [("file", (file.name, file.read_bytes())) for file in chosen]
            answer = await client.post(url, files=parts, data={"cache": "false"})
            if not answer.is_success:
                soak.seen.failed[f"job: {answer.status_code}"] += 1
                continue
            job = answer.json()["id"]
            await client.get(f"{url}/{job}/events")  # ends with the job
            soak.seen.took("job", began)
            told = await client.get(f"{url}/{job}/result", params={"response_format": "json"})
            lines = [json.loads(line) for line in told.text.splitlines()] if len(chosen) > 1 else [told.json()]
            for file, line in zip(chosen, lines, strict=True):
                text = line["result"]["text"] if len(chosen) > 1 else line["text"]
                soak.seen.judge(f"job with {file.name}", (200, text), soak.alone[file])
            (await client.delete(f"{url}/{job}")).raise_for_status()
            await asyncio.sleep(chance.expovariate(1))


async def hostile(soak: Soak, chance: random.Random) -> None:
    """Do harm, in one way or another."""
    ways: Sequence[Callable[[Soak, random.Random], Awaitable[None]]] = (half_body, no_answer, no_http, no_sound, silent)
    while not soak.over:
        way = chance.choice(ways)
        with suppress(OSError, WebSocketException, TimeoutError, asyncio.IncompleteReadError):
            await way(soak, chance)
        soak.seen.hostile[way.__name__.replace("_", " ")] += 1
        await asyncio.sleep(chance.expovariate(5))


async def half_body(soak: Soak, chance: random.Random) -> None:
    """Hang up in the middle of an upload."""
    request = with_key(upload(soak.address, PATH, chance.choice(soak.clips), {}), HOSTILE)
    await _send(soak, request[: chance.randrange(len(request))])


async def no_answer(soak: Soak, chance: random.Random) -> None:
    """Hang up before the answer."""
    await _send(soak, with_key(upload(soak.address, PATH, chance.choice(soak.clips), {}), HOSTILE))


async def no_http(soak: Soak, chance: random.Random) -> None:
    """Send what is none."""
    await _send(soak, chance.randbytes(chance.randrange(1, 5_000)))


async def silent(soak: Soak, chance: random.Random) -> None:
    """Open a connection and say nothing."""
    del chance
    await _send(soak, b"", wait=5.0)


async def no_sound(soak: Soak, chance: random.Random) -> None:
    """Send frames of garbage to a stream, and go without a word."""
    url = f"{soak.server.url.replace('http', 'ws', 1)}/v1/{chance.choice(('stream', 'realtime'))}"
    headers = {"Authorization": f"Bearer {HOSTILE}"}
    connection: ClientConnection = await connect(url, additional_headers=headers, compression=None)
    for _ in range(chance.randrange(1, 20)):
        garbage = chance.randbytes(chance.randrange(0, 20_000))
        await connection.send(chance.choice((garbage, garbage, garbage.hex()[:2_000])))
    connection.transport.abort()


async def _send(soak: Soak, data: bytes, wait: float = 0.0) -> None:
    _, writer = await asyncio.open_connection(soak.address.host, soak.address.port)
    writer.write(data)
    await writer.drain()
    await asyncio.sleep(wait)
    writer.transport.abort()


async def watch(soak: Soak) -> None:
    """Look at the server's processes every few seconds."""
    while not soak.over:
        await asyncio.sleep(LOOK_EVERY)
        with suppress(OSError):  # a decoder ended just now
            soak.seen.looks.append(look(soak.server.pid))


def look(pid: int) -> Look:
    """Return what a server has."""
    processes = (pid, *descendants(pid))
    files = sum(1 for process in processes for _ in Path(f"/proc/{process}/fd").iterdir())
    threads = sum(1 for process in processes for _ in Path(f"/proc/{process}/task").iterdir())
    return Look(resident_megabytes(pid), files, threads)


async def soaked(soak: Soak, counts: dict[str, int]) -> None:
    """Run all clients to the end."""
    kinds = {"uploads": uploads, "streams": streams, "jobs": jobs, "hostile": hostile}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(soak))
        for name, count in counts.items():
            for number in range(count):
                tasks.create_task(kinds[name](soak, random.Random(f"{name} {number}")))  # noqa: S311


def prepare(server: Server, speech: Path, seconds: float) -> Soak:
    """Ask everything once, alone."""
    sets = {name: _files(speech, name) for name in ("dev_en", "formats", "odd")}
    clips = sets["dev_en"][:60]
    files = [*clips, *sets["formats"], *sets["odd"]]
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    scripts = []
    for start in range(0, 24, 3):
        played = np.concatenate([part for one in decode(clips[start : start + 3]) for part in (one, pause)])
        scripts.append((np.clip(played, -1, 1) * 32_767).astype("<i2").tobytes())

    async def alone() -> tuple[dict[Path, Answer], list[str]]:
        address = Address.of(server.url)
        connection = Connection(address)
        answers = {file: await ask(connection, address, file) for file in files}
        connection.close()
        return answers, [await speak(server, script, lambda: 6_400, None) for script in scripts]

    answers, said = asyncio.run(alone())
    return Soak(server, seconds, Seen(), files, answers, clips, scripts, said)


def _files(speech: Path, name: str) -> list[Path]:
    lines = (speech / f"{name}.jsonl").read_text().splitlines()
    return [speech / json.loads(line)["audio_filepath"] for line in lines]


def report_on(report: Report, soak: Soak) -> None:
    """Tell what came of it."""
    seen = soak.seen
    for kind, values in sorted(seen.latencies.items()):
        took = [value for _, value in values]
        parts = [
            [value for at, value in values if part == int(QUARTERS * at / soak.seconds)] for part in range(QUARTERS)
        ]
        quarters = ", ".join(f"{1000 * p99(part):.0f}" for part in parts)
        shown = f"p50 {1000 * statistics.median(took):.0f} ms, p99 {1000 * p99(took):.0f} ms (by quarters: {quarters})"
        report.add(f"{len(took)} x {kind}", shown, "")
    report.add("wrong answers", str(len(seen.wrong)), "0")
    report.add("errors in the server's log", told_errors(soak.server), "0")
    report.add("failures", ", ".join(f"{count} x {what}" for what, count in seen.failed.items()) or "0", "0")
    report.add("hostile acts", ", ".join(f"{count} x {what}" for what, count in sorted(seen.hostile.items())), "")
    looks: dict[str, Sequence[float]] = {
        "memory, MB": [one.megabytes for one in seen.looks],
        "open files": [one.files for one in seen.looks],
        "threads": [one.threads for one in seen.looks],
    }
    for what, counts in looks.items():
        parts = [statistics.median(part) for part in np.array_split(counts, QUARTERS)]
        report.add(f"{what}: median of each quarter", ", ".join(f"{part:.0f}" for part in parts), "flat")


def p99(values: Sequence[float]) -> float:
    """Return what 99 of 100 stay under."""
    return float(np.quantile(values, 0.99)) if values else float("nan")


def told_errors(server: Server) -> str:
    """Return what the server logged as errors, and how often."""
    server.logs.seek(0)
    told: Counter[str] = Counter()
    for line in server.logs:
        with suppress(ValueError):  # a library's own words
            entry = json.loads(line)
            if entry.get("level") == "error":
                told[f"{entry['event']}: {entry.get('exception', '').rpartition(chr(10))[2]}"] += 1
    return ", ".join(f"{count} x {what}" for what, count in told.items()) or "0"


def main() -> int:
    """Run for as long as is asked for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--uploads", type=int, default=4)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--hostile", type=int, default=2)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the server as well
    report = Report()
    environment = {"NAUTILUS_ACCESS__KEYS": json.dumps(KEYS), "NAUTILUS_ACCESS__REQUIRED": "true"}
    with place(None) as own, serve(environment=environment | own) as server:
        while not httpx.get(f"{server.url}{PATH}/jobs", headers={"Authorization": f"Bearer {USER}"}).is_success:
            time.sleep(0.05)  # jobs open a little later
        soak = prepare(server, options.speech, 60 * options.minutes)
        counts = {kind: getattr(options, kind) for kind in ("uploads", "streams", "jobs", "hostile")}
        asyncio.run(soaked(soak, counts))
        report_on(report, soak)
    if options.markdown:
        options.markdown.write_text(report.markdown())
    return int(bool(soak.seen.wrong or soak.seen.failed))


if __name__ == "__main__":
    raise SystemExit(main())
