"""Many callers, one engine: turns single waveforms into full batches.

There is no timer. A batch leaves as soon as a worker is free and holds its share of what waits, so an idle server
answers at once and a busy one fills its batches. Neighbours in a batch are of similar length: cost is padded seconds,
not item count. Owners take turns (`queue`), and jobs leave a worker to requests as long as those come.

    submit ──▶ waiting (bounded) ──take──▶ one batch per worker ──▶ engine ──▶ each caller's future
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from math import ceil
from typing import Any, Final, TypeAlias

from nautilus.engines.base import EngineInfo
from nautilus.errors import EngineError, ModelDiedError
from nautilus.observe import LaneMeters
from nautilus.runtime.answer import Answer
from nautilus.runtime.calibrate import MANY, Sizing
from nautilus.runtime.ears import Ears
from nautilus.runtime.lane import Heard, LaneState, Stream, check_language
from nautilus.runtime.live import Stepper, TakeSteps
from nautilus.runtime.places import Places, Room, room
from nautilus.runtime.queue import BatchLimits, Queue, Ticket
from nautilus.runtime.rehear import Rehearser
from nautilus.runtime.short import with_quiet, without_quiet
from nautilus.runtime.spans import tell_batch
from nautilus.traces.trace import here, id_of
from nautilus.types import SAMPLE_RATE, Claim, Options, Priority, Waveform

Transcribe: TypeAlias = Callable[[Sequence[Waveform], Options], Awaitable[Answer]]
"""An engine, wherever it is. Called by at most `BatchLimits.workers` at once."""

UNLOADED = "The model was unloaded while the request was waiting; send it again."

TURN: Final = 0.05
"""Seconds that a batch may take while others ask as well."""


class Batcher:
    """A queue in front of one engine. `submit` from anywhere on the loop; `serve` from one owner."""

    def __init__(
        self,
        info: EngineInfo,
        transcribe: Transcribe,
        limits: BatchLimits,
        take_steps: TakeSteps | None = None,
        threads: Executor | None = None,
        sizing: Sizing | None = None,
    ) -> None:
        self.info = info
        self._transcribe = transcribe
        self._limits = limits
        self._workers = self._free = max(1, limits.workers)
        self._waiting = Queue(limits)
        self._running: set[Ticket] = set()
        self._wake = asyncio.Event()
        self._meters = LaneMeters()
        self._places = Places(_room(info, limits, sizing or Sizing(0, 0)))
        self._live = Stepper(take_steps or _no_steps, info, self._places, self._wake, self._meters)
        self._threads = threads
        self._rehearser = Rehearser(self.submit, info, self._places, threads)
        self._closed = False
        self._rate = 0.0  # seconds of audio per second, measured as batches finish
        self._nudged = False

    def __repr__(self) -> str:
        return (
            f"<Batcher {self.info.name}: {len(self._waiting)} waiting, {len(self._running)} running, "
            f"{self._rate:.0f}x real time>"
        )

    async def submit(self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False) -> Heard:
        """Wait for a place in a batch and return what the engine heard; see `Lane`."""
        if self._closed:
            raise EngineError(UNLOADED)
        if not admitted:
            self.check(claim)
        sound = with_quiet(audio)
        # A live utterance is told of as a whole, not by the many times that it is heard for partials.
        trace = None if claim.priority is Priority.LIVE else here()
        ticket = self._waiting.add(sound, options, claim, trace)
        self._wake.set()
        heard = await ticket.result
        return heard if sound is audio else replace(heard, hypothesis=without_quiet(heard.hypothesis, audio))

    def check(self, claim: Claim) -> None:
        """Raise OverloadedError where something new would be refused; see `Lane`."""
        self._waiting.check(claim, self._rate)

    def stream(self, wait: float, options: Options, /) -> AbstractAsyncContextManager[Stream]:
        """Open a live stream for the length of a block; see `Lane`."""
        check_language(options.language, self.info)
        if not self.info.look_aheads:
            return self._rehearser.stream(wait, options)
        return self._live.stream(wait, Ears(self.submit, self.info, options, self._threads))

    def state(self) -> LaneState:
        """Return what goes on here."""
        return LaneState(len(self._waiting), len(self._running), self._places, self._meters)

    async def serve(self) -> None:
        """Feed the engine until cancelled; from then on every caller gets an error, none waits forever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._workers):
                    tasks.create_task(self._work(number), name=f"{self.info.name} worker {number}")
        finally:
            self._closed = True
            self._live.close()
            for ticket in (*self._running, *self._waiting.empty()):
                _fail(ticket, EngineError(UNLOADED))

    async def _work(self, number: int) -> None:
        while True:
            if work := self._next(number):
                self._free -= 1
                await work
                self._free += 1
            else:
                self._wake.clear()
                await self._wake.wait()

    def _next(self, worker: int) -> Coroutine[Any, Any, None] | None:
        """Return what a worker does next; None if there is nothing."""
        if turns := self._live.take():
            return self._live.run(turns)
        if batch := self._take(worker):
            self._running.update(batch)
            return self._run(batch)
        return None

    def _take(self, worker: int) -> list[Ticket]:
        """Return the next batch of a worker. The first one of several leaves jobs to the others while requests come.

        A worker that is busy is left half a share only: until it is free, more will wait; and larger batches cost less.
        """
        share = ceil(len(self._waiting) / (self._free + 0.5 * (self._workers - self._free)))
        turn = TURN * self._rate / self._workers
        batch = self._waiting.take(share, turn, spare=self._workers > 1 and worker == 0)
        if not batch and len(self._waiting) and not self._nudged:
            self._nudged = True
            asyncio.get_running_loop().call_later(self._limits.reserve_seconds, self._nudge)
        return batch

    def _nudge(self) -> None:
        """Have a worker that left jobs waiting look again."""
        self._nudged = False
        self._wake.set()

    async def _run(self, batch: Sequence[Ticket]) -> None:
        started = time.monotonic()
        clips = [ticket.audio for ticket in batch]
        try:
            answer = _whole(await self._transcribe(clips, batch[0].options), clips)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it becomes the caller's error
            self._meters.failures.add()
            if len(batch) == 1:
                failed = error if isinstance(error, ModelDiedError) else EngineError(f"The model failed: {error}")
                tell_batch(self.info.name, batch, started, time.monotonic(), failed)
                _fail(batch[0], failed, cause=error)
                self._running.discard(batch[0])
                return
            # One bad clip must not fail its neighbours: halve until it stands alone.
            middle = len(batch) // 2
            await self._run(batch[:middle])
            await self._run(batch[middle:])
        else:
            # First of all the worker takes its next batch, for which it waits; the callers of this one are told then.
            asyncio.get_running_loop().call_soon(self._answer, batch, answer, started, time.monotonic())

    def _answer(self, batch: Sequence[Ticket], answer: Answer, started: float, ended: float) -> None:
        inference = ended - started
        tell_batch(self.info.name, batch, started, ended, answer)
        seconds = sum(len(ticket.audio) for ticket in batch) / SAMPLE_RATE
        rate = self._workers * seconds / max(inference, 1e-4)
        self._rate += (0.1 if self._rate else 1.0) * (rate - self._rate)
        self._measure(batch, seconds, inference)
        for ticket, hypothesis in zip(batch, answer.hypotheses, strict=True):
            self._meters.queue.add(started - ticket.submitted, id_of(ticket.trace))
            if not ticket.result.done():
                ticket.result.set_result(Heard(hypothesis, started - ticket.submitted, inference))
        self._running.difference_update(batch)

    def _measure(self, batch: Sequence[Ticket], seconds: float, inference: float) -> None:
        self._meters.batch_items.add(len(batch))
        self._meters.batch_seconds.add(inference, id_of(next((one.trace for one in batch if one.trace), None)))
        self._meters.audio.add(seconds)
        if not self.info.packed:
            self._meters.padding.add(len(batch) * max(len(ticket.audio) for ticket in batch) / SAMPLE_RATE - seconds)


def _whole(answer: Answer, batch: Sequence[Waveform]) -> Answer:
    """Return an answer to all of a batch. Raises EngineError if it is to less or more."""
    if len(answer.hypotheses) != len(batch):
        raise EngineError(f"It answered {len(answer.hypotheses)} of {len(batch)} waveforms.")
    return answer


def _room(info: EngineInfo, limits: BatchLimits, sizing: Sizing) -> Room:
    """Return what live streams may take; nothing is known of them where nothing was measured."""
    costs = room(
        dict(zip(info.waits, sizing.shares, strict=False)),
        max(1, limits.workers),
        limits.stream_load,
        limits.max_streams,
        on_cpu=info.device == "cpu",
    )
    return replace(costs, together=sizing.step_streams or MANY)


async def _no_steps(steps: object, sounds: object) -> Sequence[None]:
    del steps, sounds
    raise EngineError("This model does not hear live streams.")


def _fail(ticket: Ticket, error: EngineError, cause: BaseException | None = None) -> None:
    if not ticket.result.done():
        if error is not cause:
            error.__cause__ = cause
        ticket.result.set_exception(error)
