"""What one tenant's flood does to another, and what is refused when it is too much, in one table.

    python benchmarks/fairness.py --speech FOLDER [--rounds 5] [--seconds 6] [--flood 64]

A calm tenant asks with four clients, each of which rests between its requests. It is measured alone, beside a tenant
that keeps the server busy with four clients for each core, and beside one that floods; these take turns, and medians
of the rounds are compared. Beside a busy server everything takes longer, as the cores are shared: what a tenant can be
kept from is to make it any worse by asking for more.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from nautilus.measure.client import Address, Connection, upload
from process import serve
from report import Report

CALM, OTHER = "a-calm-tenant-of-the-benchmark", "another-tenant-of-the-benchmark"
KEYS = [
    {"key": CALM, "name": "calm", "tenant": "calm", "scopes": ["transcribe"]},
    {"key": OTHER, "name": "other", "tenant": "other", "scopes": ["transcribe"]},
]
CALM_CLIENTS = 4
REST = 0.25
"""Seconds between two requests of a calm client."""
PER_CORE = 4
"""Clients that ask without a rest and keep a core busy, with all that stands before the model."""
OK, BUSY = 200, 503


@dataclass(slots=True)
class Seen:
    """What one tenant saw in one round."""

    latencies: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)

    @property
    def p95(self) -> float:
        """Seconds that nineteen of twenty good answers stay under."""
        ranked = sorted(self.latencies)
        return ranked[int(0.95 * len(ranked))]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that are ready to be sent, and how long a round is."""

    address: Address
    requests: Sequence[bytes]
    seconds: float

    def of(self, key: str) -> "Load":
        """Return the same with a key."""
        header = f"\r\nAuthorization: Bearer {key}\r\nHost:".encode()
        return replace(self, requests=[one.replace(b"\r\nHost:", header, 1) for one in self.requests])

    async def run(self, clients: int, rest: float) -> Seen:
        """Ask with so many clients, each resting after an answer."""
        seen, turns, until = Seen(), count(), time.perf_counter() + self.seconds

        async def ask() -> None:
            connection = Connection(self.address)
            while (asked := time.perf_counter()) < until:
                reply = await connection.ask(self.requests[next(turns) % len(self.requests)])
                seen.answers[reply.status] += 1
                if reply.status == OK:
                    seen.latencies.append(time.perf_counter() - asked)
                await asyncio.sleep(rest if reply.status == OK else 1.0)
            connection.close()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(ask())
        return seen


async def beside(load: Load, clients: int) -> tuple[Seen, Seen]:
    """Return what the calm tenant sees beside so many clients of the other, and what that one sees."""
    async with asyncio.TaskGroup() as tasks:
        calm = tasks.create_task(load.of(CALM).run(CALM_CLIENTS, REST))
        other = tasks.create_task(load.of(OTHER).run(clients, 0.0))
    return calm.result(), other.result()


def fairness(report: Report, clips: Sequence[Path], rounds: int, seconds: float, flood: int) -> None:
    """Measure one after the other, so many times."""
    enough = PER_CORE * (os.cpu_count() or 1)
    situations = {"alone": 0, f"beside {enough} busy clients": enough, f"beside a flood of {flood} clients": flood}
    measured: dict[str, list[float]] = {name: [] for name in situations}
    others: dict[str, Counter[int]] = {name: Counter() for name in situations}
    with serve(environment={"NAUTILUS_ACCESS__KEYS": json.dumps(KEYS), "NAUTILUS_ACCESS__REQUIRED": "true"}) as server:
        address = Address.of(server.url)
        requests = [upload(address, "/v1/audio/transcriptions", clip, {}) for clip in clips]
        load = Load(address, requests, seconds)
        asyncio.run(beside(replace(load, seconds=2.0), enough))  # a start for all
        for _ in range(rounds):
            for name, clients in situations.items():
                calm, other = asyncio.run(beside(load, clients))
                if set(calm.answers) != {OK}:
                    raise RuntimeError(f"the calm tenant was refused: {calm.answers}")
                measured[name].append(calm.p95)
                others[name] += other.answers
    medians = {name: statistics.median(values) for name, values in measured.items()}
    busy = list(medians)[1]
    for name, value in medians.items():
        target = "<= 125 %" if "flood" in name else ""
        share = 100 * value / medians[busy]
        answers = f"{others[name][OK] / rounds / seconds:.0f} answers a second to others, {others[name][BUSY]} refused"
        shown = f"{1000 * value:.0f} ms, {share:.0f} % of that {busy}; {answers}"
        report.add(f"p95 of a calm tenant, {name}", shown, target)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--flood", type=int, default=64)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    lines = (options.speech / "dev_en.jsonl").read_text().splitlines()
    clips = [options.speech / json.loads(line)["audio_filepath"] for line in lines[:64]]
    report = Report()
    fairness(report, clips, options.rounds, options.seconds, options.flood)
    if options.markdown:
        options.markdown.write_text(report.markdown())


if __name__ == "__main__":
    main()
