"""Untrusted media, decoded in processes that may die without harm.

    Sandbox ─ one process per open recording, asked block by block
       └─ Nursery ─ the process that has FFmpeg loaded and forks the others in about a millisecond

    child:  unborn ──hello──► free ──open──► busy ⇄ reading ──last block, error or close──► free
                                              └─cancelled, timed out or dead──► buried, a new one takes its place

`workers` decode at once; a recording whose blocks wait for the engine holds a process but no turn, so a long recording
never keeps short ones from being decoded.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

import numpy as np
import structlog

from nautilus.audio import decoder_process as protocol
from nautilus.audio.decode import MediaFacts
from nautilus.audio.live_decode import CONTAINERS, MOST_AT_ONCE, Container
from nautilus.audio.live_recording import LiveRecording
from nautilus.errors import BadAudioError, NautilusError
from nautilus.turns import Room, Turns
from nautilus.types import SAMPLE_RATE, USUAL, Claim, Waveform

log = structlog.get_logger(__name__)

CRASHED: Final = "The file crashed the decoder; it is damaged or not audio. Re-encode it and send it again."
TOO_SLOW: Final = "Decoding took too long. Re-encode the file, for example as FLAC or Opus, and send it again."

_START_TIMEOUT: Final = 30.0  # seconds until a process says hello; on a quiet machine it takes a quarter of one
_END_TIMEOUT: Final = 5.0  # seconds
_MOST_DETAILS: Final = 65_536  # bytes of JSON in one reply


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """How much decoding may go on at once, and what one file may cost."""

    workers: int = 0
    """How many recordings are decoded at the same moment; 0: one per core, at least 2."""
    max_open: int = 512
    """Recordings open at once, waiting ones included; more are refused."""
    max_long: int = 32
    """Recordings of more than one block open at once: each holds a process; more are refused."""
    max_live: int = 64
    """Live streams of containers (WebM, Ogg) decoded at once: each holds a process; more are refused."""
    block_seconds: float = 30.0
    """Audio decoded in one go."""
    block_timeout: float = 20.0
    """Seconds of wall clock for one block."""
    memory_bytes: int = 1024**3
    """Address space that a process may take beyond what it starts with (Linux)."""


@dataclass(frozen=True, slots=True)
class _Reply:
    last: bool
    details: dict[str, Any]
    block: Waveform | None
    seconds: float


class Recording:
    """A recording being decoded; valid inside its `open` block."""

    def __init__(self, first: _Reply, replies: AsyncIterator[_Reply]) -> None:
        self.facts = MediaFacts(**first.details["facts"])
        self.warnings: tuple[str, ...] = ()
        """What the transcript should come with."""
        self.decode_seconds = 0.0
        """Seconds spent decoding so far."""
        self.at_end = False
        """Whether the last block was decoded; `warnings` is complete then."""
        self._replies = replies
        self._first: _Reply | None = first
        self._hear(first)

    async def read(self) -> Waveform | None:
        """Give the next block, `block_seconds` long but for the last; None at the end."""
        if self._first is not None:
            block, self._first = self._first.block, None
            return block
        reply = await anext(self._replies, None)
        if reply is None:
            return None
        self._hear(reply)
        return reply.block

    def _hear(self, reply: _Reply) -> None:
        self.at_end = reply.last
        self.decode_seconds += reply.seconds
        self.warnings = tuple(reply.details["warnings"])


class Sandbox:
    """Opens recordings, each in a process of its own."""

    def __init__(self, limits: DecodeLimits, nursery: "Nursery") -> None:
        self._limits = limits
        self._nursery = nursery
        self._workers = limits.workers or max(2, os.cpu_count() or 1)
        self._turns = Turns(self._workers)
        self._open = Room(limits.max_open, retry_after=1.0)
        self._long = Room(limits.max_long, retry_after=5.0)
        self._live = Room(limits.max_live, retry_after=5.0)
        self.crashes = self.timeouts = 0
        """Decoders that died, and that were too slow."""
        self._idle = [nursery.bear() for _ in range(self._workers)]

    @property
    def sealed(self) -> bool | None:
        """Whether decoders can open neither files nor connections; not known before one was asked."""
        return self._nursery.sealed

    def __repr__(self) -> str:
        children = self._nursery.children.values()
        busy = sum(child.busy for child in children)
        return (
            f"<Sandbox: {len(self._open)} open of {self._limits.max_open},"
            f" {len(self._long)} long, {len(self._live)} live,"
            f" {busy} decoding of {self._workers},"
            f" {len(children)} processes, {len(self._idle)} idle>"
        )

    @asynccontextmanager
    async def open(self, file: BinaryIO, channel: int | None = None, claim: Claim = USUAL) -> AsyncIterator[Recording]:
        """Decode a file from its start, wherever it stands; the first block is there when this returns.

        Raises BadAudioError, OverloadedError.
        """
        with self._open.held(claim.owner):
            async with aclosing(self._replies(file, channel, claim)) as replies:
                yield Recording(await anext(replies), replies)

    async def _replies(self, file: BinaryIO, channel: int | None, claim: Claim) -> AsyncGenerator[_Reply, None]:
        child: Child | None = None
        wanted = protocol.ALL_CHANNELS if channel is None else max(-1, min(channel, 2**31 - 1))
        try:
            async with self._turns.taken(claim):
                child = self._take()
                with protocol.descriptor_of(file) as descriptor:
                    reply = await self._ask(child, protocol.OPEN, wanted, descriptor)
            if reply.last:  # most recordings: the next one need not wait until this one has been heard
                self._give_back(child)
                child = None
                yield reply
                return
            with self._long.held(claim.owner):
                yield reply
                while not reply.last:
                    async with self._turns.taken(claim):
                        reply = await self._ask(child, protocol.NEXT)
                    yield reply
        finally:
            if child is not None:
                self._give_back(child)

    @asynccontextmanager
    async def listen(self, container: Container, owner: str = "") -> AsyncIterator[LiveRecording]:
        """Decode what is still being recorded, in a process of its own. Raises OverloadedError.

        There is no waiting for a turn: a piece of a live stream takes less than a millisecond.
        """
        with self._live.held(owner):
            child = self._nursery.bear()  # one that is sealed already can't give up memory
            try:
                if not child.pid:
                    await child.greet()
                child.send(protocol.REQUEST.pack(protocol.LISTEN, list(CONTAINERS).index(container), 0.0))
                yield LiveRecording(partial(self._feed, child))
            finally:
                self._nursery.bury(child)

    async def _feed(self, child: "Child", data: bytes) -> tuple[Waveform, bool]:
        """Return what a piece brought, none for the end, and whether that was all."""
        request = protocol.REQUEST.pack(protocol.FEED if data else protocol.LAST, len(data), 0.0)
        reply = await self._answer_of(child, request + data, (), round(2 * MOST_AT_ONCE * SAMPLE_RATE))
        return (np.zeros(0, np.float32) if reply.block is None else reply.block), reply.last

    def _take(self) -> "Child":
        while self._idle:
            child = self._idle.pop()
            if child.is_alive():
                return child
            self._nursery.bury(child)
        return self._nursery.bear()

    def _give_back(self, child: "Child") -> None:
        if child.is_free() and len(self._idle) < self._workers:
            self._idle.append(child)
        else:
            self._nursery.bury(child)

    async def _ask(self, child: "Child", action: bytes, channel: int = 0, *descriptors: int) -> _Reply:
        """Get one block. A child whose reply isn't heard to its end stays busy, and is buried."""
        seconds = self._limits.block_seconds
        if not child.pid:
            await child.greet()
        request = protocol.REQUEST.pack(action, channel, seconds)
        return await self._answer_of(child, request, descriptors, round(seconds * SAMPLE_RATE))

    async def _answer_of(self, child: "Child", request: bytes, descriptors: Sequence[int], most_samples: int) -> _Reply:
        """Raise what went wrong as the caller's error: it sent what can't be decoded."""
        try:
            async with asyncio.timeout(self._limits.block_timeout):
                reply = await child.ask(request, descriptors, most_samples)
        except TimeoutError:
            self.timeouts += 1
            raise BadAudioError(TOO_SLOW) from None
        except (OSError, EOFError):
            self.crashes += 1
            raise BadAudioError(CRASHED) from None
        if "code" in reply.details:
            raise protocol.error_of(**reply.details)
        return reply


class Child:
    """One decoding process as the server sees it: a number, a socket and where their conversation is."""

    def __init__(self, number: int, connection: socket.socket, tell: Callable[[bool], None]) -> None:
        self.number = number
        self._tell = tell
        self.pid = 0
        """Known once it has said hello."""
        self.busy = False
        """Whether a reply is owed."""
        self._reading = False
        self.connection = connection

    def is_alive(self) -> bool:
        """Tell whether the other end is still there; asks the kernel, never waits."""
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except OSError as error:
            return isinstance(error, BlockingIOError)

    def is_free(self) -> bool:
        """Make it forget a recording left early; false if it may not be used again."""
        if self._reading and not self.busy:
            with suppress(OSError):
                self.connection.send(protocol.REQUEST.pack(protocol.CLOSE, 0, 0.0))
                self._reading = False
        return not self.busy and not self._reading

    async def greet(self) -> None:
        """Wait for its hello, so that a slow start of the server is never blamed on a file."""
        self.busy = True  # for good, if nobody waits any more: half of the hello may have come
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                self.pid, sealed = protocol.HELLO.unpack(await self._receive(protocol.HELLO.size))
        except (OSError, EOFError) as error:
            raise NautilusError("The decoder processes do not start.") from error
        self.busy = False
        self._tell(sealed)

    async def ask(self, request: bytes, descriptors: Sequence[int], most_samples: int) -> _Reply:
        """Send a request and hear the whole reply."""
        self.busy = True
        self.send(request, descriptors)
        last, length, samples, seconds = protocol.REPLY.unpack(await self._receive(protocol.REPLY.size))
        if length > _MOST_DETAILS or samples > most_samples:
            raise EOFError  # not our decoder speaking any more
        details = json.loads(await self._receive(length))
        block = np.empty(samples, np.float32)
        await self._fill(block.view(np.uint8).data)
        self.busy, self._reading = False, not last
        return _Reply(last, details, block if samples else None, seconds)

    def send(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a request; there is room, as the one before was answered."""
        if socket.send_fds(self.connection, [request], descriptors) < len(request):
            raise BlockingIOError

    async def _receive(self, count: int) -> bytearray:
        data = bytearray(count)
        await self._fill(memoryview(data))
        return data

    async def _fill(self, view: memoryview) -> None:
        loop = asyncio.get_running_loop()
        while view:
            count = await loop.sock_recv_into(self.connection, view)
            if not count:
                raise EOFError
            view = view[count:]


class Nursery:
    """The process that forks the others, and ends them; started again should it ever die."""

    def __init__(self, memory_bytes: int) -> None:
        self.children: dict[int, Child] = {}
        self.sealed: bool | None = None
        """Whether children can open nothing; not known before the first says hello."""
        self._memory_bytes = memory_bytes
        self._births = 0
        self._start()

    def _start(self) -> None:
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(_END_TIMEOUT)
        with theirs:
            self._process = protocol.start(theirs.fileno(), self._memory_bytes)

    def bear(self) -> Child:
        """Have a child forked; it says hello when it is there."""
        self._births += 1
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            try:
                self._order(protocol.BIRTH, self._births, theirs.fileno())
            except OSError:
                self._stop()
                self._start()
                with suppress(OSError):  # the child will not say hello
                    self._order(protocol.BIRTH, self._births, theirs.fileno())
        child = self.children[self._births] = Child(self._births, ours, self._hear)
        return child

    def _hear(self, sealed: bool) -> None:
        """Take note of whether children are sealed; warn once where they aren't."""
        if self.sealed is None and not sealed:
            log.warning("decoders are not sealed: this machine has no seccomp filters, so trust its recordings")
        self.sealed = sealed

    def bury(self, child: Child) -> None:
        """Have a child killed, whatever it is at."""
        child.connection.close()
        del self.children[child.number]
        with suppress(OSError):
            self._order(protocol.DEATH, child.number)

    def _order(self, order: bytes, number: int, *descriptors: int) -> None:
        socket.send_fds(self._orders, [protocol.ORDER.pack(order, number)], descriptors)

    async def end(self) -> None:
        """End all processes and wait until they have ended."""
        for child in self.children.values():
            child.connection.close()
        try:
            with suppress(OSError):  # gone already, or given no more time
                self._orders.shutdown(socket.SHUT_WR)
                self._orders.settimeout(0)
                async with asyncio.timeout(_END_TIMEOUT):
                    await asyncio.get_running_loop().sock_recv(self._orders, 1)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._orders.close()
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def open_sandbox(limits: DecodeLimits) -> AsyncIterator[Sandbox]:
    """Start the processes, without waiting until they are up, and end them all at exit."""
    nursery = Nursery(limits.memory_bytes)
    try:
        yield Sandbox(limits, nursery)
    finally:
        await nursery.end()
