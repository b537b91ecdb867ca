"""How good: every utterance of some manifests through the whole server, at one or more levels of cleaning."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx

from nautilus.errors import BadRequestError, NautilusError
from nautilus.hearing import Task
from nautilus.measure.manifest import Utterance
from nautilus.measure.score import Score, score
from nautilus.pipeline import Pipeline
from nautilus.types import Level, Options

AT_ONCE = 16
"""Utterances in work at once: enough to fill the model's batches."""
OK = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What was heard in one recording."""

    text: str
    seconds: float
    snr: float | None
    """dB; None where it was not measured."""


class Hear(Protocol):
    """Transcribes one utterance at a level. Raises NautilusError."""

    async def __call__(self, utterance: Utterance, level: Level, /) -> Answer:
        """Return what was heard."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """One utterance at one level."""

    utterance: Utterance
    level: Level
    answer: Answer
    score: Score
    error: str | None = None
    """Why nothing was heard, where the recording was refused."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results, and how long they took."""

    results: tuple[Result, ...]
    wall: dict[Level, float]
    """Seconds for all utterances at a level."""

    def speed(self, level: Level) -> float:
        """Return seconds of audio per second at a level (RTFx)."""
        seconds = sum(result.answer.seconds for result in self.results if result.level == level)
        return seconds / self.wall[level]


async def evaluate(
    utterances: Sequence[Utterance],
    levels: Sequence[Level],
    hear: Hear,
    progress: Callable[[float], None],
    *,
    plain: bool = False,
) -> Evaluation:
    """Hear everything at each level in turn, and score it (`plain`: see `score`).

    `progress` is told seconds of audio as they are done.
    """
    results: list[Result] = []
    wall: dict[Level, float] = {}
    places = asyncio.Semaphore(AT_ONCE)

    async def one(utterance: Utterance, level: Level) -> Result:
        async with places:
            answer, error = await _heard(utterance, level, hear)
        counted = score(utterance.text, answer.text, utterance.language, plain=plain)
        progress(utterance.seconds)
        return Result(utterance, level, answer, counted, error)

    for level in levels:
        started = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one(utterance, level)) for utterance in utterances]
        wall[level] = time.perf_counter() - started
        results += [task.result() for task in asked]
    return Evaluation(tuple(results), wall)


async def _heard(utterance: Utterance, level: Level, hear: Hear) -> tuple[Answer, str | None]:
    try:
        return await hear(utterance, level), None
    except NautilusError as refusal:
        return Answer("", utterance.seconds, None), str(refusal)


def by_pipeline(pipeline: Pipeline, model: str) -> Hear:
    """Hear in this process."""

    async def hear(utterance: Utterance, level: Level, /) -> Answer:
        task = Task(model, Options(), level)
        try:
            with utterance.path.open("rb") as file:
                transcript = await pipeline.transcribe(file, task)
        except OSError as error:
            raise BadRequestError(f"{utterance.path} cannot be read: {error}") from error
        return Answer(transcript.text, transcript.audio.duration, transcript.audio.snr)

    return hear


def by_url(client: httpx.AsyncClient, model: str | None) -> Hear:
    """Hear by a running server; `client` knows its address."""

    async def hear(utterance: Utterance, level: Level, /) -> Answer:
        fields = {"preprocess": level} | ({"model": model} if model else {})
        files = {"file": (utterance.path.name, utterance.path.read_bytes())}
        response = await _patiently(lambda: client.post("/transcribe", files=files, data=fields))
        body = response.json()
        if response.status_code != OK:
            raise BadRequestError(body["error"]["message"])
        return Answer(body["text"], body["audio"]["duration"], body["audio"]["snr"])

    return hear


async def _patiently(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask again while the server is busy, as it asks to be."""
    while True:
        response = await ask()
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or "retry-after" not in response.headers:
            return response
        await asyncio.sleep(float(response.headers["retry-after"]))
