"""One live conversation, which outlives its connections: messages come in, numbered events go out.

    HELD ──its connection breaks──▶ KEPT ──the client comes back──▶ HELD
      │ ▲                             │
      │ └─ another connection takes it over
      └──the client leaves──▶ GONE ◀──not back in time, no room to keep it, or the server stops

What a message brought is counted when it is taken, so that a client which comes back knows from which byte to send.
Every event is kept after it was sent, as nobody knows what a broken connection still delivered.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, Literal, Protocol, TypeAlias

from nautilus.errors import BadRequestError, NautilusError, SessionGoneError
from nautilus.stream.service import Command, Commit
from nautilus.traces.trace import NOWHERE, Trace
from nautilus.types import SAMPLE_RATE, Waveform

Message: TypeAlias = bytes | Literal["commit", "end"] | NautilusError
"""What a client sends: sound or a wish; or the mistake that ends the conversation."""
Reason: TypeAlias = Literal["client", "longest", "stopping"]
"""Why a conversation ended: the client wished it, it had its longest time, or the server stops."""

MOST_WAITING: Final = 256 * 1024
"""Bytes of messages after which the client is read no further until they have been decoded."""
MOST_UNSENT: Final = 256 * 1024
"""Bytes of events after which nothing more is heard until the client has read some."""
MOST_REMEMBERED: Final = 1024**2
"""Bytes of events kept for a client that may not have got them."""


class Sound(Protocol):
    """Turns what a client sends into waveforms."""

    def read(self, data: bytes, /) -> AsyncGenerator[Waveform, None]:
        """Give the sound that the next bytes complete."""
        ...

    async def pause(self) -> Waveform:
        """Give what was held back for more to come: the client ends an utterance here."""
        ...

    def finish(self) -> AsyncGenerator[Waveform, None]:
        """Give the rest: nothing more comes."""
        ...


class Changes:
    """Lets coroutines wait until something is so; who changes anything says so."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Let all who wait look again."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until `so`; it still is when this returns."""
        while not so():
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)


class Hold:
    """One connection's hold on a conversation: whoever took it last has it."""


class Events:
    """Numbered events as text: what is still to be sent, and what was sent and may not have come."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._first = 0  # number of the oldest event that is kept
        self._size = 0  # of all that are kept
        self.sent = -1
        """Number of the last event that was sent."""
        self._unsent = 0

    @property
    def last(self) -> int:
        """Number of the newest event; -1 before the first."""
        return self._first + len(self._texts) - 1

    @property
    def has_room(self) -> bool:
        """Whether one more may be added before others are sent."""
        return self._unsent < MOST_UNSENT

    def add(self, event: dict[str, Any]) -> None:
        """Give an event its number, and forget what was sent long ago."""
        text = json.dumps(event | {"seq": self.last + 1}, ensure_ascii=False)
        self._texts.append(text)
        self._size += len(text)
        self._unsent += len(text)
        while self._size > MOST_REMEMBERED and self._first <= self.sent:
            self._size -= len(self._texts.popleft())
            self._first += 1

    def next(self) -> str:
        """Return the next event to send."""
        self.sent += 1
        text = self._texts[self.sent - self._first]
        self._unsent -= len(text)
        return text

    def rewind(self, after: int) -> None:
        """Send again all that came after an event. Raises BadRequestError, SessionGoneError."""
        if after > self.last:
            raise BadRequestError(f"after must be a number of an event that was told, at most {self.last}.", "after")
        if after < self._first - 1:
            raise SessionGoneError(f"what was told after event {after} is no longer known")
        self.sent = after
        self._unsent = sum(len(text) for text in list(self._texts)[after + 1 - self._first :])


class Conversation:
    """What connections share of one conversation."""

    def __init__(self, owner: str) -> None:
        self.owner: Final = owner
        """The tenant whose it is: nobody else can resume it."""
        self.id: Final = secrets.token_urlsafe(24)
        self.greeting: dict[str, Any] = {}
        """The event that opened it."""
        self.received = 0
        """Bytes of sound taken, all messages together."""
        self.commits = 0
        """Commits taken."""
        self.seconds = 0.0
        """Seconds of sound that came and was decoded."""
        self.ending = asyncio.Event()
        """Set when the client is to be read no further, for another reason than its own wish."""
        self.reason: Reason = "client"
        self.over = False
        """Whether nothing more will be told."""
        self.failure: NautilusError | None = None
        """What ended it, if it did not end well."""
        self.trace: Trace = NOWHERE
        """The span that lasts as long as it."""
        self._hold: Hold | None = None
        self._leaving = False
        self._messages: deque[Message] = deque()
        self._waiting = 0  # bytes
        self._said_end = False
        self._events = Events()
        self._changes = Changes()

    def __repr__(self) -> str:
        state = "over" if self.over else "open"
        return (
            f"<Conversation: {state}, {'held' if self._hold else 'kept'}, {self.received} bytes, {self._events.last}>"
        )

    def hold(self, after: int = -1) -> Hold:
        """Take it over, and have all events after that one told again. Raises BadRequestError, SessionGoneError."""
        self._events.rewind(after)
        self._hold, self._leaving = Hold(), False
        self._changes.tell()
        return self._hold

    def is_held(self, hold: Hold | None = None) -> bool:
        """Tell whether a connection has it: this one, or any."""
        return self._hold is hold if hold else self._hold is not None

    def release(self, hold: Hold, *, leaving: bool) -> None:
        """Let go of it; `leaving`: the client will not come back."""
        if self.is_held(hold):
            self._hold = None
            self._leaving = leaving
            self._changes.tell()

    async def take(self, hold: Hold, message: Message) -> None:
        """Take a client's message once there is room, and count it; not from a connection that has lost its hold."""
        await self._changes.until(lambda: self._waiting < MOST_WAITING or not self.is_held(hold) or self.over)
        if not self.is_held(hold) or self.over or self._said_end:
            return
        if isinstance(message, bytes):
            self.received += len(message)
            self._waiting += len(message)
        self.commits += message == "commit"
        self._said_end = message == "end"
        self._messages.append(message)
        self._changes.tell()

    async def follow(self, hold: Hold) -> AsyncGenerator[str, None]:
        """Give the events to send, as long as this connection has the conversation and it goes on."""
        events = self._events
        while True:
            await self._changes.until(lambda: not self.is_held(hold) or events.sent < events.last or self.over)
            if not self.is_held(hold) or events.sent == events.last:
                return
            yield events.next()
            self._changes.tell()

    async def tell(self, event: dict[str, Any]) -> None:
        """Tell an event, once the client has read enough of those before."""
        await self._changes.until(lambda: self._events.has_room)
        self._events.add(event | {"received": self.received})
        self._changes.tell()

    async def commands(self, sound: Sound) -> AsyncIterator[Command]:
        """Give what was taken as the sound and the wishes that it means, to the end. Raises what is wrong with it."""
        while True:
            await self._changes.until(lambda: bool(self._messages))
            message = self._messages.popleft()
            match message:
                case bytes():
                    async with aclosing(self._counted(sound.read(message))) as waveforms:
                        async for waveform in waveforms:
                            yield waveform
                    self._waiting -= len(message)
                    self._changes.tell()
                case "commit":
                    yield self._count(await sound.pause())
                    yield Commit()
                case "end":
                    async with aclosing(self._counted(sound.finish())) as waveforms:
                        async for waveform in waveforms:
                            yield waveform
                    return
                case NautilusError():
                    raise message

    def end(self, reason: Reason) -> None:
        """Read the client no further; what it has said is told. A stopping server waits for none that is gone."""
        if not self.ending.is_set():
            self.reason = reason
            self.ending.set()
        self._leaving = self._leaving or reason == "stopping"
        self._changes.tell()

    def close(self, failure: NautilusError | None = None) -> None:
        """Take note that nothing more will be told."""
        if not self.over:
            self.over, self.failure = True, failure
            self._changes.tell()

    def forget(self) -> None:
        """Let it go: there is no room to keep it."""
        self._leaving = True
        self._changes.tell()

    async def started(self) -> None:
        """Wait until the first event is there. Raises what kept it from coming."""
        await self._changes.until(lambda: self._events.last >= 0 or self.over)
        if self.failure and self._events.last < 0:
            raise self.failure

    async def gone(self, patience: float) -> None:
        """Return once its client has left, or vanished for so many seconds."""
        while True:
            await self._changes.until(lambda: not self.is_held())
            try:
                async with asyncio.timeout(patience):
                    await self._changes.until(lambda: self.is_held() or self._leaving)
            except TimeoutError:
                return
            if not self.is_held():
                return

    async def _counted(self, waveforms: AsyncGenerator[Waveform, None]) -> AsyncGenerator[Waveform, None]:
        async with aclosing(waveforms):
            async for waveform in waveforms:
                yield self._count(waveform)

    def _count(self, waveform: Waveform) -> Waveform:
        self.seconds += len(waveform) / SAMPLE_RATE
        return waveform
