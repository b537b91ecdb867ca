"""Sends changed recordings to a server, and judges what it makes of each: a transcript, or a clear 4xx.

Most go to `/transcribe`; every eighth is played to `/v1/stream`, whose decoder hears containers as they come.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fuzz.mutations import mutated

LIVE_EVERY: Final = 8
PATIENCE: Final = 120.0
"""Seconds after which an answer counts as one that never comes: a block may take 20, on a busy machine."""
PIECE: Final = 4096
CRASHED: Final = "crashed"
TOO_SLOW: Final = "took too long"
LEAST_WORDS: Final = 15
"""Characters of a message that says what to change."""


@dataclass(slots=True)
class Report:
    """What came of a run."""

    seed: int
    sent: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    """By status and code, or how a live stream ended."""
    failures: list[str] = field(default_factory=list)
    """What broke the promise, with the number that makes it again."""
    crashes: list[int] = field(default_factory=list)
    """Numbers of what killed its decoder, which is no broken promise."""

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.sent} recordings in {self.seconds:.0f} s, the slowest took {self.slowest:.1f} s"
        ]
        lines += [f"  {how}: {many}" for how, many in self.outcomes.most_common()]
        lines += [f"  killed their decoders: {self.crashes}"] if self.crashes else []
        return "\n".join([*lines, f"  broken promises: {len(self.failures)}", *self.failures])


async def fuzz(url: str, sources: Sequence[bytes], seed: int, numbers: range, at_once: int = 4) -> Report:
    """Send the recordings of these numbers, some at once."""
    report, started = Report(seed), time.monotonic()
    todo = iter(numbers)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client, asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(_work(client, url, sources, todo, report))
    report.seconds = time.monotonic() - started
    return report


async def _work(
    client: httpx.AsyncClient, url: str, sources: Sequence[bytes], todo: Iterator[int], report: Report
) -> None:
    for number in todo:
        data, started = mutated(report.seed, number, sources), time.monotonic()
        try:
            if number % LIVE_EVERY:
                outcome, fault = _judge(await client.post("/transcribe", files={"file": ("recording", data)}))
            else:
                outcome, fault = await _play(url, data)
        except (httpx.HTTPError, TimeoutError) as error:
            outcome = fault = f"no answer: {type(error).__name__}"
        report.sent += 1
        report.slowest = max(report.slowest, time.monotonic() - started)
        report.outcomes[outcome] += 1
        if CRASHED in outcome:
            report.crashes.append(number)
        if fault:
            report.failures.append(f"  number {number}: {fault}")


def _judge(answer: httpx.Response) -> tuple[str, str]:
    """Return the outcome, and what is wrong with it."""
    try:
        body = answer.json()
        if answer.status_code == 200:
            return "200", "" if isinstance(body["text"], str) else "no text"
        code, message = body["error"]["code"], body["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return str(answer.status_code), f"{answer.status_code} with {answer.text[:200]!r}"
    outcome = f"{answer.status_code} {code}"
    clear = 400 <= answer.status_code < 500 and len(message) >= LEAST_WORDS
    return _crashed(outcome, message), "" if clear else f"{outcome}: {message}"


def _crashed(outcome: str, message: str) -> str:
    """Tell decoders that died or were ended from files that were refused."""
    for word in (CRASHED, TOO_SLOW):
        if word in message and "bad_audio" in outcome:
            return f"{outcome} ({word})"
    return outcome


async def _play(url: str, data: bytes) -> tuple[str, str]:
    """Play a recording as a live stream; return how it ended, and what is wrong with that."""
    last: dict[str, Any] = {}
    address = f"{url.replace('http', 'ws', 1)}/v1/stream?encoding=auto&delay=xhigh"
    async with (
        asyncio.timeout(PATIENCE),
        connect(address, compression=None, proxy=None) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        sending = tasks.create_task(_send(connection, data))
        with suppress(ConnectionClosed):
            async for message in connection:
                last = json.loads(message)
        code = connection.close_code
        sending.cancel()
    if last.get("type") == "end":
        return f"live {code}", "" if code == 1000 else f"ended with {code}"
    error = last.get("error", {})
    outcome = _crashed(f"live {code} {error.get('code')}", str(error.get("message")))
    return outcome, "" if error.get("code") == "bad_audio" and code == 1008 else f"{outcome}: {last}"


async def _send(connection: ClientConnection, data: bytes) -> None:
    with suppress(ConnectionClosed):
        for place in range(0, len(data), PIECE):
            await connection.send(data[place : place + PIECE])
        await connection.send('{"type": "end"}')
