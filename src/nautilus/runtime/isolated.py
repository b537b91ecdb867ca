"""A lane to a model in a process of its own, which is started again should it ever die."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from nautilus.engines.base import Live, Report
from nautilus.errors import ModelDiedError, ModelLoadError
from nautilus.observe import Count
from nautilus.runtime import model_process as protocol
from nautilus.runtime.answer import Answer
from nautilus.runtime.arena import Arena, new_memory
from nautilus.runtime.lane import Lane
from nautilus.runtime.local import serving
from nautilus.runtime.queue import BatchLimits
from nautilus.runtime.streams import Step
from nautilus.types import SAMPLE_RATE, Options, Waveform

log = structlog.get_logger(__name__)

DIED: Final = "The process of the model died while it heard this recording; see the server's log."
_LARGE: Final = 60 * SAMPLE_RATE  # samples of a batch beyond which a thread copies them, not the event loop


@asynccontextmanager
async def open_isolated_lane(
    job: protocol.Job, limits: BatchLimits, report: Report, listening: Executor | None = None
) -> AsyncIterator[Lane]:
    """Load a model into a process of its own, and serve it for the length of the block.

    What listens for speech in live streams runs on the threads of `listening`.
    """
    supervisor = Supervisor(job, await ModelProcess.start(job, report))
    try:
        first = supervisor.process
        async with serving(
            supervisor.transcribe, supervisor.take_steps, first.ready.info, first.ready.sizing, limits, listening
        ) as lane:
            supervisor.restarts = lane.state().meters.restarts
            yield lane
    finally:
        supervisor.end()


class Supervisor:
    """Keeps a model's process alive: when it dies, a new one takes its place with the next batch.

    The batches that were in it are under suspicion, and are heard again, each of them alone: the one that brings the
    process down once more is at fault, and no other caller pays for it.
    """

    def __init__(self, job: protocol.Job, process: "ModelProcess") -> None:
        self.process = process
        self.restarts = Count()
        self._job = job
        self._alone = asyncio.Lock()
        self._suspects = 0
        self._no_suspects = asyncio.Event()
        self._no_suspects.set()

    async def transcribe(self, batch: Sequence[Waveform], options: Options) -> Answer:
        """Have a batch heard. Raises EngineError if it can't be."""
        while self._suspects:
            await self._no_suspects.wait()
        try:
            return await self.process.transcribe(batch, options)
        except DiedError:
            return await self._again(batch, options)

    async def take_steps(self, steps: Sequence[Step], sounds: Sequence[Waveform]) -> Sequence[Live | None]:
        """Take a step in many streams; None for each whose state died with a process."""
        try:
            return await self.process.take_steps(steps, sounds)
        except DiedError:
            async with self._alone:
                await self._revive()
            return [None] * len(steps)

    async def _again(self, batch: Sequence[Waveform], options: Options) -> Answer:
        self._suspects += 1
        self._no_suspects.clear()
        try:
            async with self._alone:
                await self._revive()
                return await self.process.transcribe(batch, options)
        except DiedError:
            raise ModelDiedError(DIED) from None
        finally:
            self._suspects -= 1
            if not self._suspects:
                self._no_suspects.set()

    async def _revive(self) -> None:
        if not self.process.lost:
            return  # another batch that was in the last one has seen to it
        self.process.end()
        log.error("the model's process died and is started again", exit_code=self.process.exit_code)
        self.restarts.add()
        sizing = self.process.ready.sizing
        try:
            self.process = await ModelProcess.start(replace(self._job, wanted=sizing), log.info)
        except ModelLoadError as error:
            raise ModelDiedError(f"The process of the model died and could not be started again: {error}") from error

    def end(self) -> None:
        """End the process, whatever it is at."""
        self.process.end()


class ModelProcess:
    """One life of the process: from its start to its end."""

    def __init__(self, job: protocol.Job) -> None:
        self._control, self._process = protocol.begin(job)
        self._control.settimeout(0)
        self._idle: list[Desk] = []
        self.lost = False
        """Whether somebody has waited in vain for an answer of it."""
        self.ready: protocol.Ready
        """What it said when it had loaded the model."""

    @classmethod
    async def start(cls, job: protocol.Job, report: Report) -> "ModelProcess":
        """Start a process and wait until its model is loaded. Raises ModelLoadError."""
        try:
            process = cls(job)
        except OSError as error:
            raise ModelLoadError(f"The model's process could not be started: {error}") from error
        try:
            process._take_up(await process._loaded(report))
        except (OSError, EOFError):
            process.end()
            raise ModelLoadError(f"The model's process died while loading (exit code {process.exit_code}).") from None
        except BaseException:
            process.end()
            raise
        return process

    async def transcribe(self, batch: Sequence[Waveform], options: Options) -> Answer:
        """Have a batch heard. Raises EngineError or DiedError."""
        return protocol.answered(await self._ask(batch, options))

    async def take_steps(self, steps: Sequence[Step], sounds: Sequence[Waveform]) -> list[Live | None]:
        """Take a step in many streams. Raises EngineError or DiedError."""
        return protocol.lives(await self._ask(sounds, tuple(steps)))

    async def _ask(self, sounds: Sequence[Waveform], about: Options | tuple[Step, ...]) -> bytes:
        """Get the answer of a desk; at most as many at once as there are workers."""
        try:
            return await self._at_desk(sounds, about)
        except DiedError:
            self.lost = True
            raise

    async def _at_desk(self, sounds: Sequence[Waveform], about: Options | tuple[Step, ...]) -> bytes:
        if not self._idle:
            raise DiedError  # its desks went with those who died at them
        desk = self._idle.pop()
        try:
            answer = await desk.ask(sounds, about)
        except BaseException:
            desk.close()  # its process has died, or will answer to nobody
            raise
        self._idle.append(desk)
        return answer

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; the negative number of a signal."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill it, whatever it is at: it holds nothing but memory."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """Kill it, and let go of what connects with it; whoever waits for an answer notices by himself."""
        self.kill()
        self._control.close()
        while self._idle:
            self._idle.pop().close()

    async def _loaded(self, report: Report) -> protocol.Ready:
        while True:
            message = await self._receive()
            if isinstance(message, protocol.Ready):
                return message
            if isinstance(message, protocol.Failed):
                raise ModelLoadError(message.reason)
            report(message.text)

    def _take_up(self, ready: protocol.Ready) -> None:
        self.ready = ready
        for _ in range(ready.sizing.workers):
            ours, theirs = socket.socketpair()
            ours.settimeout(0)
            memory = new_memory()
            with theirs:
                socket.send_fds(self._control, [b"d"], [theirs.fileno(), memory])
            self._idle.append(Desk(ours, Arena(memory)))

    async def _receive(self) -> protocol.Ready | protocol.Failed | protocol.Progress:
        (length,) = protocol.LENGTH.unpack(await self._exactly(protocol.LENGTH.size))
        message: protocol.Ready | protocol.Failed | protocol.Progress = protocol.unpickled(await self._exactly(length))
        return message

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < count:
            part = await loop.sock_recv(self._control, count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


class Desk:
    """Where one worker of the process takes batches."""

    def __init__(self, connection: socket.socket, arena: Arena) -> None:
        self._connection = connection
        self._arena = arena

    async def ask(self, batch: Sequence[Waveform], about: Options | tuple[Step, ...]) -> bytes:
        """Have sounds heard. Raises DiedError if the process ended meanwhile."""
        loop = asyncio.get_running_loop()
        lengths = [len(waveform) for waveform in batch]
        question = protocol.question(lengths, about)
        if sum(lengths) > _LARGE:
            samples = await loop.run_in_executor(None, self._arena.put, batch, question)
        else:
            samples = self._arena.put(batch, question)
        try:
            await loop.sock_sendall(self._connection, protocol.MESSAGE.pack(samples, len(question)))
            header = await loop.sock_recv(self._connection, protocol.MESSAGE.size)
        except OSError:
            header = b""
        if not header:
            raise DiedError
        return self._arena.data(*protocol.MESSAGE.unpack(header))

    def close(self) -> None:
        """Let go of the worker."""
        self._connection.close()
        self._arena.close()


class DiedError(Exception):
    """The process ended before it had answered."""
