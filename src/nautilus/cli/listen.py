"""`nautilus listen`: live captions in the terminal, from the microphone or from a file, here or at a server.

microphone or file ──pieces of 0.1 s──▶ a model in this process, or /v1/stream ──partials and finals──▶ Captions
"""

import asyncio
import json
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from nautilus.audio.decode import Decoder
from nautilus.cli.console import notes
from nautilus.errors import BadRequestError, ConfigurationError, first_error
from nautilus.observe import configure_logging
from nautilus.settings import Settings
from nautilus.stream.service import converse
from nautilus.stream.session import Event, Partial
from nautilus.stream.session import Final as FinalEvent
from nautilus.types import SAMPLE_RATE, Options, Waveform
from nautilus.wire.live import DELAYS, look_ahead_for

PIECE: Final = 0.1
"""Seconds of sound heard at a time."""
MOST_WAITING: Final = 300
"""Pieces from the microphone that may wait: half a minute."""
NO_MICROPHONE: Final = (
    "The microphone needs the sounddevice package and PortAudio: pip install 'nautilus[listen]', and on Linux"
    " apt-get install libportaudio2. Or play a recording with --file."
)


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    url: str | None
    """A server to ask; None: hear it here."""
    model: str | None
    delay: str
    file: Path | None
    """None: the microphone."""
    speed: float
    """Times real time; 0: as fast as it is heard."""
    device: str | None
    headers: Mapping[str, str]
    """For the server."""


class Captions:
    """Shows the words so far on the last line, and finished utterances above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def partial(self, text: str) -> None:
        """Replace the last line; where lines can't be replaced, say nothing."""
        if self._live.is_started:
            self._live.update(Text(text, style="dim"), refresh=True)

    def final(self, text: str) -> None:
        """Let an utterance stay."""
        if self._live.is_started:
            self._live.update(Text(""))
        self._console.print(Text(text))


async def run(request: Request, settings: Settings, console: Console) -> None:
    """Show captions until the sound ends, or until Ctrl-C, after which the last words still come."""
    _check(request)
    configure_logging(settings.log_level, settings.log_format)
    stop = asyncio.Event()
    sound = _played(request.file, request.speed, stop) if request.file else _microphone(request.device, stop)
    with first_error(), _stopped_by_ctrl_c(stop), Captions(console) as captions:
        async with aclosing(sound):
            if request.url:
                await _ask(request.url, request, sound, captions)
            else:
                await _hear(request, settings, sound, captions)


async def _hear(request: Request, settings: Settings, sound: AsyncIterator[Waveform], captions: Captions) -> None:
    from nautilus.assembly import assemble

    async def show(event: Event) -> None:
        match event:
            case Partial():
                captions.partial(" ".join(word.text for word in event.words))
            case FinalEvent():
                captions.final(" ".join(word.text for word in event.words))
            case _:
                pass

    async with assemble(settings) as core, core.pool.lease(core.default_model) as lane:
        look_ahead = look_ahead_for(request.delay, lane.info.waits)
        async with lane.stream(look_ahead, Options()) as stream:
            notes.print(f"Listening with {lane.info.name}; Ctrl-C ends.", style="dim")
            await converse(sound, show, stream, settings.stream, asyncio.Event())


async def _ask(url: str, request: Request, sound: AsyncIterator[Waveform], captions: Captions) -> None:
    from urllib.parse import urlencode

    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    query = {"delay": request.delay} | ({"model": request.model} if request.model else {})
    address = f"{url.rstrip('/').replace('http', 'ws', 1)}/v1/stream?{urlencode(query)}"
    try:
        async with connect(address, compression=None, additional_headers=request.headers) as connection:
            notes.print(f"Listening at {url}; Ctrl-C ends.", style="dim")
            with first_error():
                async with asyncio.TaskGroup() as tasks:
                    sending = tasks.create_task(_send(connection, sound))
                    await _show(connection, captions)
                    sending.cancel()
    except InvalidStatus as refusal:
        raise BadRequestError(_reason(bytes(refusal.response.body or b""), refusal.response.status_code)) from None
    except (OSError, WebSocketException) as error:
        raise BadRequestError(f"{url} can't be asked: {error}") from None


async def _send(connection: Any, sound: AsyncIterator[Waveform]) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):  # why, the events tell
        async for waveform in sound:
            await connection.send((np.clip(waveform, -1, 1) * 32_767).astype("<i2").tobytes())
        await connection.send('{"type": "end"}')


async def _show(connection: Any, captions: Captions) -> None:
    async for message in connection:
        event = json.loads(message)
        match event["type"]:
            case "partial":
                captions.partial(event["text"])
            case "final":
                captions.final(event["text"])
            case "warning":
                notes.print(event["message"], style="yellow")
            case "error":
                raise BadRequestError(event["error"]["message"])
            case _:
                pass


def _reason(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"The server answered {status}."


async def _played(path: Path, speed: float, stop: asyncio.Event) -> AsyncGenerator[Waveform, None]:
    """Give a recording as fast as it was spoken, times `speed`."""
    with path.open("rb") as file:
        decoder = Decoder(file)
        try:
            started, given = time.monotonic(), 0.0
            while not stop.is_set() and (piece := decoder.read(PIECE)) is not None:
                given += len(piece) / SAMPLE_RATE
                if speed:
                    await _wait(stop, started + given / speed - time.monotonic())
                yield piece
        finally:
            decoder.close()


async def _microphone(device: str | None, stop: asyncio.Event) -> AsyncGenerator[Waveform, None]:
    """Give what the microphone hears. Raises ConfigurationError where there is none."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[Waveform] = asyncio.Queue(MOST_WAITING)

    def take(piece: Waveform) -> None:
        if pieces.full():
            notes.print("Too slow: some sound was left out.", style="yellow")
        else:
            pieces.put_nowait(piece)

    def heard(data: Any, *_: object) -> None:  # in PortAudio's thread
        loop.call_soon_threadsafe(take, data[:, 0].copy())

    with _open_microphone(device, heard):
        while not stop.is_set():
            try:
                async with asyncio.timeout(PIECE):  # to see whether it is to stop
                    piece = await pieces.get()
            except TimeoutError:
                continue
            yield piece


def _sounddevice() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError):  # the package, or PortAudio
        raise ConfigurationError(NO_MICROPHONE) from None
    return sounddevice


@contextmanager
def _open_microphone(device: str | None, heard: Any) -> Iterator[None]:
    sounddevice = _sounddevice()
    try:
        number = int(device) if device and device.isdigit() else device
        size = round(PIECE * SAMPLE_RATE)
        stream = sounddevice.InputStream(SAMPLE_RATE, size, number, 1, "float32", callback=heard)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ConfigurationError(f"The microphone can't be opened: {error}") from None
    with stream:
        yield


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()


@contextmanager
def _stopped_by_ctrl_c(stop: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C end the sound, and another one everything."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread: Ctrl-C ends everything
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _check(request: Request) -> None:
    if request.delay not in DELAYS:
        raise BadRequestError(f"--delay must be one of {', '.join(DELAYS)}.")
    if request.file is None:
        _sounddevice()
    elif not request.file.is_file():
        raise BadRequestError(f"There is no file {request.file}.")
    if request.speed < 0:
        raise BadRequestError("--speed must be 0 or more.")
