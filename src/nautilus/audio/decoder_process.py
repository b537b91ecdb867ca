"""The processes in which recordings are decoded: one that has imported everything and forks, and its children.

    sandbox ──socket──► nursery: fork and end children, nothing else; ends with them when that socket closes
    sandbox ──socket──► child: one recording at a time, block by block

    child:  free ──OPEN──► reading ──NEXT──► reading ──(the end, an error or CLOSE)──► free
            free ──LISTEN──► listening ──FEED──► listening ──(LAST or an error)──► ended

Every message has a fixed size but for what a reply's header announces. A child has its socket and the file it reads,
and is sealed before it sees the first byte of a recording: it can open nothing else, neither files nor connections,
start nothing and signal nobody, so that a decoder that goes wrong goes nowhere. Started as
`python -m nautilus.audio.decoder_process DESCRIPTOR MEMORY_BYTES`; imports nothing of the server but
`decode`, `live_decode` and `seal`.
"""

import ctypes
import gc
import io
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeAlias, cast

from nautilus.audio.decode import Decoder
from nautilus.audio.live_decode import CONTAINERS, Container, LiveDecoder
from nautilus.audio.seal import seal
from nautilus.errors import BadAudioError, BadRequestError
from nautilus.types import SAMPLE_RATE, Waveform

_Blocks: TypeAlias = Generator[tuple[dict[str, object], Waveform | None, bool], None, None]

ORDER: Final = struct.Struct("<cI")
"""To the nursery: what to do and the child's number; a birth comes with the child's end of its socket."""
BIRTH, DEATH = b"b", b"d"

REQUEST: Final = struct.Struct("<cid")
"""To a child: what to do, the channel and the seconds of a block; an opening comes with the file's descriptor."""
OPEN, NEXT, CLOSE = b"o", b"n", b"c"
ALL_CHANNELS: Final = -2
LISTEN, FEED, LAST = b"l", b"f", b"e"
"""To a child that is to decode what is still being recorded: the container's place in `CONTAINERS`; so many bytes that
follow; nothing more comes. Each but the first is answered with what has been decoded."""
LIVE_MEMORY: Final = 256 * 1024**2
"""Bytes of address space that such a child may take beyond what it has."""

HELLO: Final = struct.Struct("<I?")
"""From a new child: its process id, and whether it will be sealed."""

REPLY: Final = struct.Struct("<?IId")
"""From a child: whether that was all, bytes of JSON and samples (float32) that follow, seconds spent decoding."""

_INHERITED: Final = ("PYTHON", "LD_", "DYLD_", "LC_", "LANG")
_PR_SET_PDEATHSIG: Final = 1
_FIRST_FREE_DESCRIPTOR: Final = 4  # after standard input, output, error and the child's socket


def start(descriptor: int, memory_bytes: int) -> "subprocess.Popen[bytes]":
    """Start the nursery. Called by the server; its keys and settings stay with it."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(_INHERITED)}
    return subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
        [sys.executable, "-P", "-m", __name__, str(descriptor), str(memory_bytes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
    )


def nurse(orders: socket.socket, memory_bytes: int) -> None:
    """Fork and end children as ordered until the other side closes; then end them all."""
    children: dict[int, int] = {}
    sealing = _can_seal()
    try:
        while True:
            message, descriptors, _, _ = socket.recv_fds(orders, ORDER.size, 1)
            if len(message) < ORDER.size:
                return
            order, number = ORDER.unpack(message)
            if order == DEATH:
                _end(children.pop(number, None))
                continue
            children[number] = os.fork()
            if children[number] == 0:
                children.clear()  # they are its siblings
                orders.close()
                _live(descriptors[0], memory_bytes, sealing=sealing)
            os.close(descriptors[0])
    finally:
        for pid in children.values():
            _end(pid)


def _can_seal() -> bool:
    """Try it, in a process that ends with that."""
    pid = os.fork()
    if pid == 0:
        os._exit(not seal())
    return os.waitpid(pid, 0)[1] == 0


def _end(pid: int | None) -> None:
    """Kill and reap. Nobody else reaps, so the id cannot have passed to another process."""
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _live(descriptor: int, memory_bytes: int, *, sealing: bool) -> None:
    """Be a child: whatever happens, never return into the nursery's loop."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        os.dup2(descriptor, 3)
        os.closerange(_FIRST_FREE_DESCRIPTOR, descriptor + 64)
        gc.enable()
        _confine(memory_bytes)
        with socket.socket(fileno=3) as connection:
            serve(connection, sealing=sealing)
        status = 0
    finally:
        os._exit(status)


def _confine(memory_bytes: int) -> None:
    """Take away what decoding does not need. The address space counts mappings of all kinds, so nothing slips past it.

    macOS does not limit it: there the time-out alone stands against a file that wants everything.
    """
    _limit_memory(memory_bytes)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FIRST_FREE_DESCRIPTOR + 1, _FIRST_FREE_DESCRIPTOR + 1))


def _limit_memory(more_bytes: int) -> None:
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + more_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextmanager
def descriptor_of(file: BinaryIO) -> Iterator[int]:
    """Give a file's own descriptor, or that of a copy in memory for a file that has none on disk."""
    own = _own_descriptor(file)
    if own is not None:
        yield own
        return
    with _memory_file() as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy, 1024**2)
        copy.flush()
        yield copy.fileno()


def _own_descriptor(file: BinaryIO) -> int | None:
    try:
        file.flush()
        return file.fileno()
    except (AttributeError, OSError):
        return None


def _memory_file() -> BinaryIO:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("recording"), "wb", buffering=0)
    return tempfile.TemporaryFile()


class SharedFile:
    """A file read at positions of its own: the descriptor's offset is shared with other processes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._position = 0

    def read(self, count: int) -> bytes:
        """Give up to so many bytes."""
        data = os.pread(self._descriptor, count, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as for any file."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise OSError
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        """Say where the next read starts."""
        return self._position

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class _Request(NamedTuple):
    action: bytes
    channel: int
    seconds: float
    descriptors: list[int]


def serve(connection: socket.socket, *, sealing: bool) -> None:
    """Decode what is asked for, block by block, until the other side closes; nothing, where sealing fails."""
    connection.sendall(HELLO.pack(os.getpid(), sealing))
    request = _heard(connection)
    if request is None:
        return
    if request.action == LISTEN:
        _limit_memory(LIVE_MEMORY)
    if sealing and not seal():
        return
    if request.action == LISTEN:
        _listen(connection, list(CONTAINERS)[request.channel])
    else:
        _read(connection, request)


def _heard(connection: socket.socket) -> _Request | None:
    message, descriptors, _, _ = socket.recv_fds(connection, REQUEST.size, 1)
    if len(message) < REQUEST.size:
        return None
    action, channel, seconds = REQUEST.unpack(message)
    return _Request(action, channel, seconds, descriptors)


def _read(connection: socket.socket, request: _Request | None) -> None:
    blocks: _Blocks | None = None
    while request is not None:
        started = time.perf_counter()
        if request.action == OPEN:
            channel = None if request.channel == ALL_CHANNELS else request.channel
            blocks = _decode(request.descriptors[0], channel, request.seconds)
        if blocks is not None and request.action == CLOSE:
            blocks.close()
        elif blocks is not None:
            details, block, last = next(blocks)
            _answer(connection, details, block, last=last, started=started)
            if last:
                blocks.close()
        request = _heard(connection)


def _answer(
    connection: socket.socket, details: dict[str, object], block: Waveform | None, *, last: bool, started: float
) -> None:
    text = json.dumps(details).encode()
    samples = 0 if block is None else len(block)
    connection.sendall(REPLY.pack(last, len(text), samples, time.perf_counter() - started) + text)
    if block is not None:
        connection.sendall(block.data)


def _decode(descriptor: int, channel: int | None, seconds: float) -> "_Blocks":
    """Give what goes into each reply; any other failure than the caller's ends the process, which tells enough."""
    file = SharedFile(descriptor)
    try:
        with closing(Decoder(cast("BinaryIO", file), channel)) as decoder:
            details: dict[str, object] = {"facts": asdict(decoder.facts)}
            last = False
            while not last:
                block = decoder.read(seconds)
                last = block is None or len(block) < round(seconds * SAMPLE_RATE)
                yield details | {"warnings": decoder.warnings}, block, last
                details = {}
    except BadRequestError as error:
        yield {"code": error.code, "message": str(error), "param": error.param}, None, True
    finally:
        file.close()


def _listen(connection: socket.socket, container: Container) -> None:
    """Decode what comes to its end; a reply is owed for each piece, and is sent when FFmpeg wants the next one."""
    started: float | None = None

    def more() -> bytes:
        nonlocal started
        if started is not None:
            _answer(connection, {}, decoder.take(), last=False, started=started)
        action, count, _ = REQUEST.unpack(_exactly(connection, REQUEST.size))
        started = time.perf_counter()
        return _exactly(connection, count) if action == FEED else b""

    decoder = LiveDecoder(container, more)
    details: dict[str, object] = {}
    try:
        decoder.run()
    except BadRequestError as error:
        details = {"code": error.code, "message": str(error), "param": error.param}
    _answer(connection, details, decoder.take(), last=True, started=started or time.perf_counter())


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def error_of(code: str, message: str, param: str | None) -> BadRequestError:
    """Make the child's error again, of the same class, without its constructor's own arguments."""
    kinds: list[type[BadRequestError]] = [BadRequestError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    same = {kind.code: kind for kind in kinds}.get(code, BadAudioError)
    error = same.__new__(same)
    BadRequestError.__init__(error, message, param)
    return error


def _warm_up() -> None:
    """Decode a moment of silence: what is imported and allocated once, every child then shares."""
    file = io.BytesIO()
    with wave.open(file, "wb") as silence:
        silence.setparams((1, 2, 8000, 0, "NONE", ""))
        silence.writeframes(bytes(1600))
    with closing(Decoder(file)) as decoder:
        decoder.read(1.0)


def main() -> None:
    """Run the nursery."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a group or a service; the server decides the end
        signal.signal(number, signal.SIG_IGN)
    descriptor, memory_bytes = map(int, sys.argv[1:])
    _warm_up()
    gc.disable()
    gc.freeze()  # children share pages for as long as the collector leaves them alone
    with socket.socket(fileno=descriptor) as orders:
        nurse(orders, memory_bytes)


if __name__ == "__main__":
    main()
