"""Runs one live conversation: one task reads the client, one has what came heard, one tells; all end with the block.

Backpressure is plain awaiting: a slow client holds `emit`, a slow engine lets sound wait, and once too much waits the
client is read no further. A slow engine hears more at once, and so costs partials, never finals.

    commands ──▶ Inbox ──▶ Stream ──▶ Session ──events, in order──▶ Outbox ──▶ emit
                                         └──a final──▶ SecondPass ──────┘
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nautilus.engines.base import Live
from nautilus.errors import first_error
from nautilus.runtime.lane import Stream
from nautilus.stream.outbox import Emit, Outbox
from nautilus.stream.second import SecondPass
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


async def converse(
    commands: AsyncIterator[Command],
    emit: Emit,
    stream: Stream,
    limits: StreamLimits,
    stopping: asyncio.Event,
    second: SecondPass | None = None,
) -> None:
    """Hear `commands` to their end, or until the server is `stopping`; tell events as they come.

    With a `second` pass, finals are what that hears. Raises EngineError, and what `commands` and `emit` raise.
    """
    inbox = Inbox(limits.most_waiting)
    with first_error():
        async with asyncio.TaskGroup() as tasks:
            conversation = Conversation(stream, Session(limits), Outbox(emit, tasks), second)
            reading = tasks.create_task(inbox.fill(commands), name="read the client")
            watching = tasks.create_task(_end_when(stopping, reading, inbox), name="watch for the end")
            async for command in inbox:
                await conversation.obey(command)
            watching.cancel()
            await conversation.end()


async def _end_when(stopping: asyncio.Event, reading: asyncio.Task[None], inbox: "Inbox") -> None:
    """Read the client no further once the server is stopping; what has come is heard."""
    await stopping.wait()
    reading.cancel()
    await inbox.end()


class Conversation:
    """What a client's commands do, one after the other."""

    def __init__(self, stream: Stream, session: Session, outbox: Outbox, second: SecondPass | None) -> None:
        self._stream = stream
        self._session = session
        self._outbox = outbox
        self._second = second

    async def obey(self, command: Command) -> None:
        """Do as the client says."""
        match command:
            case Commit():
                live = await self._stream.finish()
                await self._tell_end(self._session.committed(live), live)
            case Clear():
                live = await self._stream.finish()
                await self._outbox.put(self._session.clear(live))
                if self._second:
                    self._second.forget(live.until)
            case Change():
                self._session.limits = command.limits
            case _:
                await self._hear(command)

    async def end(self) -> None:
        """Tell the last words."""
        live = await self._stream.finish()
        await self._tell_end(self._session.ended(live), live)
        await self._outbox.end()

    async def _hear(self, sound: Waveform) -> None:
        """Look at every chunk of the model, so that utterances end where they do however the sound came."""
        for start in range(0, len(sound), self._stream.chunk):
            piece = sound[start : start + self._stream.chunk]
            if self._second:
                self._second.keep(piece)
            live = await self._stream.hear(piece)
            events, ends = self._session.heard(live)
            await self._outbox.put(events)
            if ends:
                live = await self._stream.cut(live)
                await self._tell_end(self._session.ended(live), live)

    async def _tell_end(self, events: list[Event], live: Live) -> None:
        """Tell how an utterance ended, and go on: a second pass takes its time, and what comes next waits for it."""
        if self._second:
            await self._outbox.put_later(self._second.corrected(events, live.until))
        else:
            await self._outbox.put(events)


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
