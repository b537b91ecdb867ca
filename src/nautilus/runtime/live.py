"""Many live streams, one engine: what waits of all of them becomes one step.

As with batches there is no timer: a step leaves when a worker is free and takes every stream that has new sound.
Streams go before everything else that waits for the engine.

A failing step harms only the stream that it fails for. Who that is, and how far the others' states have come, nobody
knows: each of them begins a new state and hears its utterance again from the start, alone in its step.

A stream that is over before it has brought a second of sound is heard again as a recording of that length is, with
quiet around it (`short`), and the surer hearing counts: a word that stands alone is often missed.

    LiveStream.hear ──▶ waiting (one entry for each stream) ──take──▶ StreamTable.step ──▶ each stream's future
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

import numpy as np

from nautilus.engines.base import EngineInfo, Live
from nautilus.errors import EngineError, UnsupportedError
from nautilus.observe import LaneMeters
from nautilus.runtime.calibrate import MANY
from nautilus.runtime.ears import Ears
from nautilus.runtime.places import Places
from nautilus.runtime.short import SHORT, surer
from nautilus.runtime.streams import Step
from nautilus.types import SAMPLE_RATE, Hypothesis, Waveform

TakeSteps: TypeAlias = Callable[[Sequence[Step], Sequence[Waveform]], Awaitable[Sequence[Live | None]]]
"""A `StreamTable`, wherever it is. None for a stream that is lost with the process that held it. May raise anything."""

LONGEST_STEP = 0.15
"""Seconds that a step of several streams may take. A slow model is no faster with many at once: a step that takes all
who wait keeps those who come meanwhile waiting, the next one is longer still, and both workers end with seconds-long
steps although there is time for everybody."""
FEWEST = 2
"""Chunks in one step, if so many wait, however long it takes."""
AT_ONCE = 4
"""Streams that are told what was heard in one round of the event loop."""
NOTHING = np.zeros(0, np.float32)


@dataclass(slots=True, eq=False)
class Turn:
    """A stream's place in the next step."""

    step: Step
    sound: Waveform = field(repr=False)
    result: asyncio.Future[Live | None]
    seconds: float = 0.0
    """That it takes a worker, as measured at load; nothing where its sound completes no chunk."""
    alone: bool = False
    """Whether it may be what made a step fail: no other stream shares its step."""


class Stepper:
    """The queue of live streams before one engine; its batcher's workers take from it first."""

    def __init__(
        self, take_steps: TakeSteps, info: EngineInfo, places: Places, wake: asyncio.Event, meters: LaneMeters
    ) -> None:
        self._take_steps = take_steps
        self._info = info
        self._places = places
        self._wake = wake
        self._meters = meters
        self._waiting: list[Turn] = []
        self._alone_before = self._alone_now = False
        self._numbers = count()
        self.closed = False

    @asynccontextmanager
    async def stream(self, look_ahead: float, ears: Ears) -> AsyncIterator["LiveStream"]:
        """Open a stream for the length of the block; what is very short of it is heard with `ears`.

        Raises UnsupportedError for a look-ahead that the model hasn't, OverloadedError where no more fit in.
        """
        check_wait(look_ahead, self._info)
        with self._places.taken(look_ahead):
            live = LiveStream(self, look_ahead, round((look_ahead + self._info.frame_seconds) * SAMPLE_RATE), ears)
            try:
                yield live
            finally:
                live.abandon()

    def number(self) -> int:
        """Return a number that no other stream has."""
        return next(self._numbers)

    def put(self, step: Step, sound: Waveform, *, chunks: int = 0, alone: bool = False) -> asyncio.Future[Live | None]:
        """Let a stream wait for its turn; `chunks` of the model are complete with its sound."""
        if self.closed:
            raise EngineError("The model was unloaded; open the stream again.")
        seconds = chunks * (step.look_ahead + self._info.frame_seconds) * self._places.share(step.look_ahead)
        turn = Turn(step, sound, asyncio.get_running_loop().create_future(), seconds, alone)
        self._waiting.append(turn)
        self._wake.set()
        return turn.result

    def take(self) -> list[Turn]:
        """Remove the turns of the next step. Those that go alone go one at a time, and let others go in between."""
        turns = fitting([turn for turn in self._waiting if not turn.alone], self._places.together)
        if not self._alone_now and not (turns and self._alone_before):
            turns = [turn for turn in self._waiting if turn.alone][:1] or turns
        if turns:
            self._alone_before = turns[0].alone
            self._alone_now = self._alone_now or turns[0].alone
            taken = set(map(id, turns))
            self._waiting = [turn for turn in self._waiting if id(turn) not in taken]
        return turns

    async def run(self, turns: Sequence[Turn]) -> None:
        """Take one step in all these streams. If the step of one fails, it is its own; of several, all are in doubt."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        heard: Sequence[Live | None] = [None] * len(turns)
        try:
            heard = await self._take_steps([turn.step for turn in turns], [turn.sound for turn in turns])
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it becomes the caller's error
            self._meters.failures.add()
            if len(turns) == 1:
                _fail(turns[0], EngineError(f"The model failed: {error}"))
        finally:
            self._alone_now = self._alone_now and not turns[0].alone
        self._meters.step_streams.add(len(turns))
        self._meters.step_seconds.add(loop.time() - started)
        _answer(list(zip(turns, heard, strict=True)))

    def close(self) -> None:
        """Tell everyone who waits that nothing more is heard."""
        self.closed = True
        for turn in self._waiting:
            _fail(turn, EngineError("The model was unloaded; open the stream again."))


def fitting(turns: Sequence[Turn], together: int) -> list[Turn]:
    """Return the first of those who wait that go into one step.

    Of each look-ahead so many with a chunk as go `together`, and all in all no more than it may take.
    """
    spent, chunks = 0.0, Counter[float]()
    for place, turn in enumerate(turns[:MANY]):
        look_ahead = turn.step.look_ahead
        if turn.seconds:
            too_long = chunks.total() >= FEWEST and spent + turn.seconds > LONGEST_STEP
            if too_long or chunks[look_ahead] >= together:
                return list(turns[:place])
            spent += turn.seconds
            chunks[look_ahead] += 1
    return list(turns[:MANY])


class LiveStream:
    """One stream at the engine, by one caller; see `Stream`.

    Should its state be lost or in doubt, the utterance is heard again.
    """

    def __init__(self, stepper: Stepper, look_ahead: float, chunk: int, ears: Ears) -> None:
        self.chunk = chunk
        """Samples that the model hears at once: with no more in a piece, each of its chunks can be looked at."""
        self._stepper = stepper
        self._look_ahead = look_ahead
        self._ears = ears
        self._offset = 0.0  # seconds of the stream at which the engine's state began
        self._samples = 0
        self._begin()

    def _begin(self) -> None:
        """Start a new state at the engine, at the stream's time."""
        self._number = self._stepper.number()
        self._first, self._cut = True, False
        self._asked: asyncio.Future[Live | None] | None = None
        """The answer to its latest step, which it must have before the next one: no state is in two at once."""
        self._offset = self._samples / SAMPLE_RATE
        self._kept: list[Waveform] = []
        """What came since the utterance began."""

    async def hear(self, sound: Waveform) -> Live:
        """Take the next samples, any number; return what is heard of the utterance so far. Raises EngineError."""
        self._samples += len(sound)
        self._kept.append(sound)
        return await self._step(sound, last=False)

    async def finish(self) -> Live:
        """Return all of the utterance, to the last sample. What comes then is a new one."""
        live = await self._step(NOTHING, last=True)
        sound = np.concatenate([NOTHING, *self._kept])
        if 0 < len(sound) < SHORT * SAMPLE_RATE and self._samples - len(sound) == round(self._offset * SAMPLE_RATE):
            again = later(await self._ears.hear(sound), self._offset)
            live = replace(live, hypothesis=surer(live.hypothesis, again))
        self._begin()
        return live

    async def cut(self, live: Live) -> Live:
        """End the utterance at the time that the engine has come to; see `Stream`."""
        self._cut = True
        later = max(0, self._samples - round(live.until * SAMPLE_RATE))
        self._kept = [np.concatenate([NOTHING, *self._kept])[-later:] if later else NOTHING]
        return live

    def abandon(self) -> None:
        """Let the engine forget the stream, after the step that it may still be in."""
        if self._asked is not None:
            self._asked.add_done_callback(self._drop)

    def _drop(self, asked: asyncio.Future[Live | None]) -> None:
        del asked
        if not self._stepper.closed:
            dropped = Step(self._number, self._look_ahead, first=False, cut=False, last=True, drop=True)
            self._stepper.put(dropped, NOTHING).add_done_callback(_seen)

    async def _put(self, sound: Waveform, *, last: bool, alone: bool = False) -> Live | None:
        step = Step(self._number, self._look_ahead, self._first, self._cut, last)
        begun = self._samples - round(self._offset * SAMPLE_RATE)
        chunks = begun // self.chunk - (begun - len(sound)) // self.chunk
        self._asked = self._stepper.put(step, sound, chunks=max(chunks, last), alone=alone)
        live = await asyncio.shield(self._asked)  # who is cancelled leaves the step to its end
        self._first = self._cut = False
        return live

    async def _step(self, sound: Waveform, *, last: bool) -> Live:
        live = await self._put(sound, last=last)
        if live is None:
            live = await self._again(last=last)
        return _later(live, self._offset)

    async def _again(self, *, last: bool) -> Live:
        """Hear the utterance from its start, in a new state."""
        kept = self._kept
        self._samples -= sum(map(len, kept))
        self._begin()
        self._samples += sum(map(len, kept))
        self._kept = kept
        live = await self._put(np.concatenate([NOTHING, *kept]), last=last, alone=True)
        if live is None:
            raise EngineError("The model's process died again while it heard this stream.")
        return live


def _later(live: Live, seconds: float) -> Live:
    """Shift the times of what was heard."""
    if not seconds:
        return live
    return replace(live, hypothesis=later(live.hypothesis, seconds), until=live.until + seconds)


def later(hypothesis: Hypothesis, seconds: float) -> Hypothesis:
    """Shift the times of a hypothesis."""
    words = (replace(word, start=word.start + seconds, end=word.end + seconds) for word in hypothesis.words)
    return replace(hypothesis, words=tuple(words))


def check_wait(wait: float, info: EngineInfo) -> None:
    """Raise UnsupportedError for a wait that a model's streams don't have."""
    if wait not in info.waits:
        offer = ", ".join(f"{seconds:g}" for seconds in info.waits)
        raise UnsupportedError(f"look_ahead must be one of {offer} for {info.name}.", "look_ahead")


def _seen(future: asyncio.Future[Live | None]) -> None:
    if not future.cancelled():
        future.exception()


def _answer(answers: Sequence[tuple[Turn, Live | None]]) -> None:
    """Tell some streams what was heard, and the others in the event loop's next rounds.

    What a stream makes of it takes about a millisecond, and all else would wait until a whole step's streams are done.
    """
    for turn, live in answers[:AT_ONCE]:
        if not turn.result.done():
            turn.result.set_result(live)
    if len(answers) > AT_ONCE:
        asyncio.get_running_loop().call_soon(_answer, answers[AT_ONCE:])


def _fail(turn: Turn, error: EngineError) -> None:
    if not turn.result.done():
        turn.result.set_exception(error)
