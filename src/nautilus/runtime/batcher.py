"""Many callers, one engine: turns single waveforms into full batches.

There is no timer. A batch leaves as soon as a worker is free and holds its share of whatever is waiting, so an idle
server answers at once and a busy one fills its batches. Neighbours in a batch are of similar length: cost is padded
seconds, not item count.

    submit ──▶ waiting (bounded) ──take──▶ one batch per worker ──▶ engine ──▶ each caller's future
"""

import asyncio
from bisect import insort
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from math import ceil
from typing import TypeAlias

from nautilus.engines.base import EngineInfo
from nautilus.errors import EngineError, ModelDiedError, OverloadedError
from nautilus.observe import LaneMeters
from nautilus.runtime.ears import Ears
from nautilus.runtime.lane import Heard, LaneState, Stream, check_language
from nautilus.runtime.live import Stepper, TakeSteps
from nautilus.runtime.places import Places, Room, room
from nautilus.runtime.rehear import Rehearser
from nautilus.runtime.short import with_quiet, without_quiet
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Priority, Waveform

Transcribe: TypeAlias = Callable[[Sequence[Waveform], Options], Awaitable[Sequence[Hypothesis]]]
"""An engine, wherever it is. Called by at most `BatchLimits.workers` at once."""

UNLOADED = "The model was unloaded while the request was waiting; send it again."


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds on one batch and on the queue before it."""

    workers: int = 0
    """Threads that run the model at once; 0: one per core on a CPU, one on a GPU."""
    max_items: int = 0
    """Waveforms in a batch; 0: what a short calibration at load finds fastest."""
    max_seconds: float = 480.0
    """Audio in a batch after padding: the longest item times the number of items."""
    max_padding: float = -1.0
    """Share of a batch's padded seconds that may be padding; below 0: little on a CPU, more on a GPU."""
    max_waiting: int = 512
    """Windows in the queue beyond which new recordings are refused, not queued."""
    max_streams: int = 0
    """Live streams of a model at once, whatever they take; 0: as many as real time allows, measured at load."""
    stream_load: float = 0.7
    """Share of the workers' time that live streams may take, as measured at load; more streams are refused."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's place in the queue."""

    priority: Priority
    number: int
    audio: Waveform = field(repr=False)
    options: Options
    submitted: float
    """Event-loop time in seconds."""
    result: asyncio.Future[Heard]

    @property
    def place(self) -> tuple[Priority, int]:
        """By priority, then by arrival."""
        return (self.priority, self.number)


def take(waiting: list[Ticket], limits: BatchLimits, share: int) -> list[Ticket]:
    """Remove the next batch of at most `share` tickets from `waiting` (sorted by place) and return it.

    The first ticket always goes, however long it is. Others join it if they have its priority and options, those of
    the most similar length first, as long as the padded seconds and the padding stay within `limits`. Tickets whose
    caller has gone are dropped.
    """
    waiting[:] = [ticket for ticket in waiting if not ticket.result.done()]
    if not waiting:
        return []
    first = waiting[0]
    length = len(first.audio)
    others = [t for t in waiting[1:] if t.priority == first.priority and t.options == first.options]
    others.sort(key=lambda ticket: abs(len(ticket.audio) - length))
    batch = [first]
    longest = total = length
    for ticket in others:
        if len(batch) >= min(share, limits.max_items):
            break
        wider = max(longest, len(ticket.audio))
        padded = wider * (len(batch) + 1)
        fuller = total + len(ticket.audio)
        if padded > limits.max_seconds * SAMPLE_RATE or padded - fuller > limits.max_padding * padded:
            break
        batch.append(ticket)
        longest, total = wider, fuller
    taken = set(map(id, batch))
    waiting[:] = [ticket for ticket in waiting if id(ticket) not in taken]
    return batch


class Batcher:
    """A queue in front of one engine. `submit` from anywhere on the loop; `serve` from one owner."""

    def __init__(
        self,
        info: EngineInfo,
        transcribe: Transcribe,
        limits: BatchLimits,
        take_steps: TakeSteps | None = None,
        threads: Executor | None = None,
        shares: Sequence[float] = (),
    ) -> None:
        self.info = info
        self._transcribe = transcribe
        self._limits = limits
        self._waiting: list[Ticket] = []
        self._running: dict[int, Ticket] = {}
        self._numbers = count()
        self._wake = asyncio.Event()
        self._meters = LaneMeters()
        self._places = Places(_room(info, limits, shares))
        self._live = Stepper(take_steps or _no_steps, info, self._places, self._wake, self._meters)
        self._threads = threads
        self._rehearser = Rehearser(self.submit, info, self._places, threads)
        self._closed = False
        self._rate = 50.0  # seconds of audio per second, measured as batches finish

    def __repr__(self) -> str:
        return (
            f"<Batcher {self.info.name}: {len(self._waiting)} waiting, {len(self._running)} running, "
            f"{self._rate:.0f}x real time>"
        )

    async def submit(
        self, audio: Waveform, options: Options, priority: Priority, /, *, admitted: bool = False
    ) -> Heard:
        """Wait for a place in a batch and return what the engine heard; see `Lane`."""
        if self._closed:
            raise EngineError(UNLOADED)
        if not admitted and len(self._waiting) >= self._limits.max_waiting:
            raise OverloadedError(retry_after=self.backlog_seconds())
        loop = asyncio.get_running_loop()
        sound = with_quiet(audio)
        ticket = Ticket(priority, next(self._numbers), sound, options, loop.time(), loop.create_future())
        insort(self._waiting, ticket, key=lambda waiting: waiting.place)
        self._wake.set()
        heard = await ticket.result
        return heard if sound is audio else replace(heard, hypothesis=without_quiet(heard.hypothesis, audio))

    def stream(self, wait: float, options: Options, /) -> AbstractAsyncContextManager[Stream]:
        """Open a live stream for the length of a block; see `Lane`."""
        check_language(options.language, self.info)
        if not self.info.look_aheads:
            return self._rehearser.stream(wait, options)
        return self._live.stream(wait, Ears(self.submit, self.info, options, self._threads))

    def state(self) -> LaneState:
        """Return what goes on here."""
        return LaneState(len(self._waiting), len(self._running), self._places, self._meters)

    def backlog_seconds(self) -> float:
        """Return how long the engine will need for what is waiting."""
        return sum(len(ticket.audio) for ticket in self._waiting) / SAMPLE_RATE / self._rate

    async def serve(self) -> None:
        """Feed the engine until cancelled; from then on every caller gets an error, none waits forever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(max(1, self._limits.workers)):
                    tasks.create_task(self._work(), name=f"{self.info.name} worker {number}")
        finally:
            self._closed = True
            self._live.close()
            for ticket in (*self._running.values(), *self._waiting):
                _fail(ticket, EngineError(UNLOADED))

    async def _work(self) -> None:
        while True:
            if turns := self._live.take():
                await self._live.run(turns)
                continue
            share = ceil(len(self._waiting) / max(1, self._limits.workers))
            batch = take(self._waiting, self._limits, share)
            if batch:
                self._running |= {ticket.number: ticket for ticket in batch}
                await self._run(batch)
                for ticket in batch:
                    del self._running[ticket.number]
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _run(self, batch: Sequence[Ticket]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        clips = [ticket.audio for ticket in batch]
        try:
            heard = await self._transcribe(clips, batch[0].options)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it becomes the caller's error
            self._meters.failures.add()
            if len(batch) == 1:
                failed = error if isinstance(error, ModelDiedError) else EngineError(f"The model failed: {error}")
                _fail(batch[0], failed, cause=error)
                return
            # One bad clip must not fail its neighbours: halve until it stands alone.
            middle = len(batch) // 2
            await self._run(batch[:middle])
            await self._run(batch[middle:])
        else:
            self._answer(batch, heard, started, loop.time() - started)

    def _answer(self, batch: Sequence[Ticket], heard: Sequence[Hypothesis], started: float, inference: float) -> None:
        seconds = sum(len(ticket.audio) for ticket in batch) / SAMPLE_RATE
        self._rate += 0.1 * (max(1, self._limits.workers) * seconds / max(inference, 1e-4) - self._rate)
        self._measure(batch, seconds, inference)
        for ticket, hypothesis in zip(batch, heard, strict=True):
            self._meters.queue.add(started - ticket.submitted)
            if not ticket.result.done():
                ticket.result.set_result(Heard(hypothesis, started - ticket.submitted, inference))

    def _measure(self, batch: Sequence[Ticket], seconds: float, inference: float) -> None:
        self._meters.batch_items.add(len(batch))
        self._meters.batch_seconds.add(inference)
        self._meters.audio.add(seconds)
        self._meters.padding.add(len(batch) * max(len(ticket.audio) for ticket in batch) / SAMPLE_RATE - seconds)


def _room(info: EngineInfo, limits: BatchLimits, shares: Sequence[float]) -> Room:
    """Return what live streams may take; `shares` as in `Sizing`."""
    by_look_ahead = dict(zip(info.waits, shares, strict=False))  # none where nothing was measured
    workers = max(1, limits.workers)
    return room(by_look_ahead, workers, limits.stream_load, limits.max_streams, on_cpu=info.device == "cpu")


async def _no_steps(steps: object, sounds: object) -> Sequence[None]:
    del steps, sounds
    raise EngineError("This model does not hear live streams.")


def _fail(ticket: Ticket, error: EngineError, cause: BaseException | None = None) -> None:
    if not ticket.result.done():
        if error is not cause:
            error.__cause__ = cause
        ticket.result.set_exception(error)
