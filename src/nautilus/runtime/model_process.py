"""The process of one model: loads it, sizes its batches, answers batches until the server closes the connections.

    lane ──Job──────────────► load, warm up, size ──Progress…──► Ready or Failed
    lane ──a desk per worker─► (socket and arena)
    lane ──batch──► desk ──► Engine.transcribe ──► desk ──hypotheses──► lane

A model here never waits for the server's interpreter, a crash of its native code is one failed batch, and unloading it
gives all its memory back.
"""

import ctypes
import marshal
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, Final, TypeAlias, cast

import structlog
from threadpoolctl import threadpool_limits

from nautilus.engines.base import Engine, EngineInfo, Live, Report, StreamingEngine
from nautilus.errors import EngineError, NautilusError
from nautilus.observe import LogFormat, configure_logging
from nautilus.runtime.answer import Answer
from nautilus.runtime.arena import Arena
from nautilus.runtime.calibrate import Sizing, size
from nautilus.runtime.streams import Step, StreamTable
from nautilus.types import Hypothesis, Options, Token, Waveform, Word

log = structlog.get_logger(__name__)

LENGTH: Final = struct.Struct("<I")
"""Before each pickled message of the control connection."""

MESSAGE: Final = struct.Struct("<II")
"""At a desk, both ways: the samples and the bytes that lie in the arena."""

Plain: TypeAlias = tuple[str, str | None, list[tuple[Any, ...]]]
"""A hypothesis as `marshal` takes it; to pickle dataclasses costs several times as much."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a new process is told first."""

    load: Callable[[Report], Engine]
    wanted: Sizing
    memory: Path
    """Where the sizing is remembered."""
    log_level: str
    log_format: LogFormat


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the loading is."""

    text: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    info: EngineInfo
    sizing: Sizing


@dataclass(frozen=True, slots=True)
class Failed:
    """The model could not be loaded."""

    reason: str


KEEP_MEMORY: Final = {"MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
"""For glibc: keep what a batch has freed for the next one; to fetch it anew from the kernel costs some 4 percent."""


def start(descriptor: int) -> "subprocess.Popen[bytes]":
    """Start a process that is controlled through a socket. Our own settings, and keys in them, stay with the server."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NAUTILUS_")}
    return subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
        [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(descriptor)],  # pickles by that name
        stdin=subprocess.DEVNULL,
        pass_fds=[descriptor],
        env=KEEP_MEMORY | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # a Ctrl-C in the terminal is for the server, which decides the end
    )


Begun: TypeAlias = tuple[socket.socket, "subprocess.Popen[bytes]"]
"""A process that loads a model, and the connection that controls it."""
_ahead: Final[dict[Path, Begun]] = {}
"""Processes that nobody has asked for yet, by `Job.memory`, which names a model and its weights."""


def begin(job: Job) -> Begun:
    """Have a process load a model: the one that was begun ahead, or a new one. Raises OSError if it dies at once."""
    return _ahead.pop(job.memory, None) or _begin(job)


@contextmanager
def begun_ahead(job: Job) -> Iterator[None]:
    """Have a process load a model before anybody waits for it; who begins the same in the block gets that process."""
    _ahead[job.memory] = _begin(job)
    try:
        yield
    finally:
        if unused := _ahead.pop(job.memory, None):
            _end(*unused)


def _begin(job: Job) -> Begun:
    control, theirs = socket.socketpair()
    with theirs:
        process = start(theirs.fileno())
    try:
        send(control, job)
    except BaseException:
        _end(control, process)
        raise
    return control, process


def _end(control: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    control.close()


def serve(control: socket.socket) -> None:
    """Load a model and answer batches until the other side closes."""
    job: Job = receive(control)
    configure_logging(job.log_level, job.log_format)
    try:
        engine = job.load(lambda text: send(control, Progress(text)))
        send(control, Progress("sizing batches"))
        sizing = size(engine, job.wanted, job.memory)
        _trim()
    except NautilusError as error:
        send(control, Failed(str(error)))
        return
    except Exception as error:
        log.exception("model failed")
        send(control, Failed(f"{type(error).__name__}: {error}"))
        return
    send(control, Ready(engine.info, sizing))
    hearing = Hearing(engine)
    desks = [_desk(control) for _ in range(sizing.workers)]
    for connection, arena in desks[1:]:
        Thread(target=work, args=(hearing, connection, arena), daemon=True).start()
    work(hearing, *desks[0])  # a model that may be called from one thread only never leaves the one it was loaded on


def _trim() -> None:
    """Give back what measuring took, more than serving will; only glibc keeps it, and only glibc has this."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class Hearing:
    """What a desk can be asked: to hear a batch, or to take a step in streams."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams = StreamTable(cast("StreamingEngine[Any]", engine))

    def __call__(self, sounds: Sequence[Waveform], about: Options | tuple[Step, ...]) -> list[Any]:
        """Return what was heard in built-in types."""
        if isinstance(about, Options):
            return [_plain(one) for one in self._engine.transcribe(sounds, about)]
        lives = self._streams.step(about, sounds)
        return [live and (_plain(live.hypothesis), live.until, live.silence, live.over) for live in lives]


def work(hearing: Hearing, connection: socket.socket, arena: Arena) -> None:
    """Answer what one desk is asked, one after the other, until the other side closes."""
    while header := connection.recv(MESSAGE.size, socket.MSG_WAITALL):
        lengths, about = unpickled(arena.data(*MESSAGE.unpack(header)))
        since = time.monotonic()
        try:
            heard = hearing(arena.waveforms(lengths), about)
            answer = marshal.dumps((True, heard, since, time.monotonic()))
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it becomes the caller's error
            log.warning("batch failed", items=len(lengths), error=repr(error))
            answer = marshal.dumps((False, str(error) or type(error).__name__, since, time.monotonic()))
        connection.sendall(MESSAGE.pack(arena.put([], answer), len(answer)))


def question(lengths: Sequence[int], about: Options | tuple[Step, ...]) -> bytes:
    """Return what goes with the sounds."""
    return pickle.dumps((lengths, about))


def answered(answer: bytes) -> Answer:
    """Read what a batch was answered. Raises EngineError if the model failed."""
    heard, since, until = _heard(answer)
    return Answer(Unread(heard), since, until)


class Unread(Collection[Hypothesis]):
    """Hypotheses that are read when they are looked at: until then, their worker waits for its next batch."""

    def __init__(self, heard: Sequence[Plain]) -> None:
        self._heard = heard

    def __len__(self) -> int:
        return len(self._heard)

    def __iter__(self) -> Iterator[Hypothesis]:
        return map(_hypothesis, self._heard)

    def __contains__(self, one: object) -> bool:
        return one in list(self)


def lives(answer: bytes) -> list[Live | None]:
    """Read what a step was answered. Raises EngineError if the model failed."""
    heard, _, _ = _heard(answer)
    return [one and Live(_hypothesis(one[0]), one[1], one[2], over=one[3]) for one in heard]


def _heard(answer: bytes) -> tuple[list[Any], float, float]:
    well, heard, since, until = marshal.loads(answer)  # noqa: S302 - from our own process
    if not well:
        raise EngineError(heard)
    return heard, since, until


def _plain(one: Hypothesis) -> Plain:
    words = [
        (word.text, word.start, word.end, word.confidence, [(token.text, token.logprob) for token in word.tokens])
        for word in one.words
    ]
    return one.text, one.language, words


def _hypothesis(one: Plain) -> Hypothesis:
    text, language, words = one
    heard = (
        Word(text, start, end, confidence, tuple(Token(*token) for token in tokens))
        for text, start, end, confidence, tokens in words
    )
    return Hypothesis(text, tuple(heard), language)


def send(control: socket.socket, message: object) -> None:
    """Send one message of the control connection."""
    data = pickle.dumps(message)
    control.sendall(LENGTH.pack(len(data)) + data)


def receive(control: socket.socket) -> Any:
    """Receive one message of the control connection. Raises EOFError if the other side has closed."""
    (length,) = LENGTH.unpack(_exactly(control, LENGTH.size))
    return unpickled(_exactly(control, length))


def unpickled(data: bytes) -> Any:
    """Read what the other side pickled; both are ours."""
    return pickle.loads(data)  # noqa: S301


def _exactly(control: socket.socket, count: int) -> bytes:
    data = control.recv(count, socket.MSG_WAITALL)
    if len(data) < count:
        raise EOFError
    return data


def _desk(control: socket.socket) -> tuple[socket.socket, Arena]:
    message, (connection, arena), _, _ = socket.recv_fds(control, 1, 2)
    if not message:
        raise EOFError
    return socket.socket(fileno=connection), Arena(arena)


def main() -> None:
    """Run the process; it ends without a word when the server has gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a service; the server decides the end
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control, threadpool_limits(1, user_api="blas"):
        try:
            serve(control)
        except (EOFError, OSError):
            os._exit(1)
    os._exit(0)  # other workers may be inside native code, which an orderly end would wait for
