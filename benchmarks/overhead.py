"""What keys, limits, metrics and traces cost a request, each and together: `make bench-overhead`.

    python benchmarks/overhead.py [--rounds 15] [--requests 200] [--clip FILE]

All servers run beside each other, with the embedded model, and are asked in turns: so many requests by a few clients to
each, in an order that rotates. A ratio is of one round, to the bare server of that round, and the median over all
rounds counts: machines are noisy. Processor time is that of the server with all its processes; the collector of
traces, which answers at once, is another process.

Counting cannot be turned off: what is measured as metrics is that they are asked for once a second, which is far more
often than Prometheus does, and what counting takes of one request is measured by itself.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Final

from nautilus.measure.client import Address, Connection, upload
from nautilus.observe import LaneMeters
from nautilus.web.metrics import HttpMeters
from process import Server, free_port, processor_seconds, serve
from report import Report

HERE: Final = Path(__file__).parent
KEY: Final = "sk-nautilus-of-the-benchmark-0123456789"
KEYS: Final = {"NAUTILUS_ACCESS__KEYS": json.dumps([{"key": KEY, "name": "bench"}])}
LIMITS: Final = {
    "NAUTILUS_LIMITS__REQUESTS_PER_MINUTE": "1000000",
    "NAUTILUS_LIMITS__AUDIO_SECONDS_PER_MINUTE": "1000000000",
    "NAUTILUS_LIMITS__CONCURRENT_REQUESTS": "1000",
}
CLIENTS: Final = 4
WARM: Final = 50
"""Requests before anything counts."""
SCRAPE_EVERY: Final = 1.0
OPENMETRICS: Final = b"Accept: application/openmetrics-text; version=1.0.0\r\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A server as it is set up, and how it is asked."""

    name: str
    variables: Mapping[str, str]
    with_key: bool = False
    scraped: bool = False
    target: str = ""


@dataclass(slots=True)
class Asked:
    """A server, and what it took in each round."""

    kind: Kind
    server: Server
    walls: list[float] = field(default_factory=list)
    """Seconds for a request."""
    processor: list[float] = field(default_factory=list)
    """Seconds of processor time for a request."""


def kinds(collector: str) -> list[Kind]:
    """Return the bare server and those that are compared with it."""
    traces = {"NAUTILUS_TRACES__ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
    few = traces | {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
    return [
        Kind("bare", {}),
        Kind("bare, once more", {}),
        Kind("keys", KEYS, with_key=True),
        Kind("keys and limits", KEYS | LIMITS, with_key=True),
        Kind("metrics, asked for every second", {}, scraped=True),
        Kind("traces, 1 % of the requests", few),
        Kind("traces, all requests", traces),
        Kind("all of it, 1 % traced", KEYS | LIMITS | few, with_key=True, scraped=True, target="<= 103 %"),
        Kind("all of it, all traced", KEYS | LIMITS | traces, with_key=True, scraped=True),
    ]


@contextmanager
def collecting() -> Iterator[str]:
    """Run a collector that takes everything, in a process of its own; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "--collect", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def collect(port: int) -> None:
    """Be that collector."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


async def ask(asked: Asked, clip: Path, requests: int) -> tuple[float, float]:
    """Send so many requests; return the seconds and the seconds of processor time that each took."""
    address = Address.of(asked.server.url)
    request = upload(address, "/v1/audio/transcriptions", clip, {})
    if asked.kind.with_key:
        request = request.replace(b"\r\nContent-Type:", f"\r\nAuthorization: Bearer {KEY}\r\nContent-Type:".encode(), 1)
    numbers = count()

    async def work() -> None:
        connection = Connection(address)
        while next(numbers) < requests:
            reply = await connection.ask(request)
            if reply.status != 200:  # noqa: PLR2004 - HTTP's own
                raise RuntimeError(reply.body.decode())
        connection.close()

    started, processor = time.perf_counter(), processor_seconds(asked.server.pid)
    async with asyncio.TaskGroup() as tasks:
        scraping = tasks.create_task(scrape(address)) if asked.kind.scraped else None
        clients = [tasks.create_task(work()) for _ in range(CLIENTS)]
        await asyncio.wait(clients)
        wall = time.perf_counter() - started
        if scraping:
            scraping.cancel()
    return wall / requests, (processor_seconds(asked.server.pid) - processor) / requests


async def scrape(address: Address) -> None:
    """Ask for the metrics, again and again."""
    connection = Connection(address)
    request = f"GET /metrics HTTP/1.1\r\nHost: {address.host}\r\n".encode() + OPENMETRICS + b"\r\n"
    while True:
        await connection.ask(request)
        await asyncio.sleep(SCRAPE_EVERY)


def counting() -> float:
    """Return the seconds that counting takes for one request with one window."""
    http, lane, times = HttpMeters(), LaneMeters(), 20_000
    started = time.perf_counter()
    for _ in range(times):
        lane.queue.add(0.001)
        lane.batch_items.add(1)
        lane.batch_seconds.add(0.01)
        lane.audio.add(4.0)
        lane.padding.add(0.0)
        http.add("POST", "/v1/audio/transcriptions", 200, 0.02)
    return (time.perf_counter() - started) / times


def measure(report: Report, clip: Path, rounds: int, requests: int) -> None:
    """Ask all servers in turns and note what each took of the bare one."""
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers = [
            Asked(kind, stack.enter_context(serve(environment=_environment(kind, folder, number))))
            for number, kind in enumerate(kinds(collector))
        ]
        for asked in servers:
            asyncio.run(ask(asked, clip, WARM))
        for turn in range(rounds):
            for place in range(len(servers)):
                asked = servers[(place + turn) % len(servers)]
                wall, processor = asyncio.run(ask(asked, clip, requests))
                asked.walls.append(wall)
                asked.processor.append(processor)
    tell(report, servers)


def _environment(kind: Kind, folder: str, number: int) -> dict[str, str]:
    """Return the settings of a server; all of them take the same batches, as they are measured once."""
    own = {"NAUTILUS_CACHE_DIR": folder, "NAUTILUS_STORAGE__DATA_DIR": f"{folder}/{number}"}
    return own | {"NAUTILUS_JOBS__ENABLED": "false", "NAUTILUS_LOG_FORMAT": "json"} | dict(kind.variables)


def tell(report: Report, servers: Sequence[Asked]) -> None:
    """Add a line for each server."""
    bare, *others = servers
    report.add(
        "bare",
        f"{1000 * statistics.median(bare.walls):.2f} ms and {1000 * statistics.median(bare.processor):.2f} ms of "
        "processor time a request",
        "",
    )
    for asked in others:
        processor, wall = _of(asked.processor, bare.processor), _of(asked.walls, bare.walls)
        report.add(asked.kind.name, f"{processor} of the processor time, {wall} of the time", asked.kind.target)
    report.add("counting of one request", f"{1e6 * counting():.1f} us", "")


def _of(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median of the rounds' ratios, and between what half of them lie."""
    ratios = [100 * one / other for one, other in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.1f} % ({low:.1f} to {high:.1f})"


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clip", type=Path, default=HERE / "sample.flac")
    parser.add_argument("--collect", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect:
        collect(given.collect)
        return
    report = Report()
    measure(report, given.clip, given.rounds, given.requests)
    print(report.markdown())


if __name__ == "__main__":
    main()
