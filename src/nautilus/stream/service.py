"""Runs one live conversation: one task reads the client, one has what came heard; both end with the block.

Backpressure is plain awaiting: a slow client holds `emit`, a slow engine lets sound wait, and once too much waits the
client is read no further. A slow engine hears more at once, and so costs partials, never finals.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nautilus.errors import first_error
from nautilus.runtime.live import LiveStream
from nautilus.stream.session import Event, Session, StreamLimits
from nautilus.types import SAMPLE_RATE, Waveform


@dataclass(frozen=True, slots=True)
class Commit:
    """End the utterance now."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the utterance."""


@dataclass(frozen=True, slots=True)
class Change:
    """From here on, utterances end by other limits."""

    limits: StreamLimits


Wish: TypeAlias = Commit | Clear | Change
Command: TypeAlias = Waveform | Wish
Emit: TypeAlias = Callable[[Event], Awaitable[None]]


async def converse(
    commands: AsyncIterator[Command], emit: Emit, stream: LiveStream, limits: StreamLimits, stopping: asyncio.Event
) -> None:
    """Hear `commands` to their end, or until the server is `stopping`; tell events as they come.

    Raises EngineError, and what `commands` raises.
    """
    inbox = Inbox(limits.most_waiting)
    session = Session(limits)
    with first_error():
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(inbox.fill(commands), name="read the client")
            watching = tasks.create_task(_end_when(stopping, reading, inbox), name="watch for the end")
            async for command in inbox:
                match command:
                    case Commit():
                        live = await stream.finish()
                        await _tell(session.committed(live), emit)
                    case Clear():
                        session.clear(await stream.finish())
                    case Change():
                        session.limits = command.limits
                    case _:
                        await _hear(command, stream, session, emit)
            watching.cancel()
    await _tell(session.ended(await stream.finish()), emit)


async def _end_when(stopping: asyncio.Event, reading: asyncio.Task[None], inbox: "Inbox") -> None:
    """Read the client no further once the server is stopping; what has come is heard."""
    await stopping.wait()
    reading.cancel()
    await inbox.end()


async def _hear(sound: Waveform, stream: LiveStream, session: Session, emit: Emit) -> None:
    """Look at every chunk of the model, so that utterances end where they do however the sound came."""
    for start in range(0, len(sound), stream.chunk):
        live = await stream.hear(sound[start : start + stream.chunk])
        events, ends = session.heard(live)
        if ends:
            stream.cut(live.until)
        await _tell(events, emit)


async def _tell(events: list[Event], emit: Emit) -> None:
    for event in events:
        await emit(event)


class Inbox:
    """What a client sent and the engine has not heard; neighbouring sounds are taken as one."""

    def __init__(self, most_waiting: float) -> None:
        self._most = round(most_waiting * SAMPLE_RATE)
        self._sounds: list[Waveform] = []
        self._wish: Wish | None = None
        self._ended = False
        self._changed = asyncio.Condition()

    async def fill(self, commands: AsyncIterator[Command]) -> None:
        """Put everything that comes, as long as there is room; a wish waits until all sound before it is taken."""
        async for command in commands:
            async with self._changed:
                if isinstance(command, Commit | Clear | Change):
                    self._wish = command
                    self._changed.notify_all()
                    await self._changed.wait_for(lambda: self._wish is None)
                else:
                    await self._changed.wait_for(lambda: sum(map(len, self._sounds)) < self._most)
                    self._sounds.append(command)
                    self._changed.notify_all()
        await self.end()

    async def end(self) -> None:
        """Take note that nothing more comes."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def __aiter__(self) -> AsyncIterator[Command]:
        """Yield all that has come since the last time, until the end."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._sounds or self._wish or self._ended)
                sounds, self._sounds = self._sounds, []
                wish = None if sounds else self._wish
                if wish:
                    self._wish = None
                ended = self._ended
                self._changed.notify_all()
            if sounds:
                yield np.concatenate(sounds)
            elif wish:
                yield wish
            elif ended:
                return
