"""Live captions in the terminal."""

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nautilus.cli.listen import Captions, _microphone
from tests.cli.test_commands import elsewhere, run
from tests.engines.sounds import sample
from tests.web.clips import SPEECH
from tests.web.test_stream import HEARD

__all__ = ["elsewhere"]  # a fixture for every test here


def test_a_recording_is_heard_here() -> None:
    result = run("listen", "--file", str(SPEECH), "--speed", "0", "--delay", "xhigh")
    assert (result.exit_code, result.stdout.split()) == (0, HEARD.split())
    assert "Listening with nautilus-en-4m" in result.stderr


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on its own: the server under test logs in this process."""
    command = [sys.executable, "-m", "nautilus", "listen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_recording_is_heard_at_a_server(server: str) -> None:
    result = process("--url", server, "--file", str(SPEECH), "--speed", "20", "--delay", "xhigh")
    assert (result.returncode, result.stdout.split()) == (0, HEARD.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--file", "nothing.wav"), "There is no file nothing.wav"),
        (("--file", str(SPEECH), "--delay", "soon"), "--delay must be one of"),
        (("--file", str(SPEECH), "--speed", "-1"), "--speed must be"),
        (("--file", str(SPEECH), "--url", "http://127.0.0.1:9"), "can't be asked"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: tuple[str, ...], reason: str) -> None:
    result = run("listen", *arguments)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_what_a_server_refuses_is_told(server: str) -> None:
    result = process("--url", server, "--file", str(SPEECH), "--model", "nobody")
    assert result.returncode == 1
    assert "There is no model named 'nobody'" in result.stderr


def test_without_a_microphone_the_way_to_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run("listen")
    assert result.exit_code == 1
    assert "pip install 'nautilus[listen]'" in result.stderr


def test_partials_replace_the_last_line_and_finals_stay() -> None:
    screen = io.StringIO()
    with Captions(Console(file=screen, force_terminal=True, width=60)) as captions:
        for text in ("hel", "hello", "hello world"):
            captions.partial(text)
        captions.final("hello world.")
        captions.partial("and")
    shown = screen.getvalue()
    assert shown.index("hel") < shown.index("hello world.") < shown.index("and")
    assert "\x1b[2K" in shown  # the line is cleared
    assert shown.count("hello world.") == 1


def test_where_lines_stay_only_finals_are_shown() -> None:
    screen = io.StringIO()
    with Captions(Console(file=screen, force_terminal=False)) as captions:
        captions.partial("hel")
        captions.final("hello")
    assert screen.getvalue() == "hello\n"


def test_ctrl_c_ends_the_sound_and_the_last_words_still_come(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nautilus", "listen", "--file", str(SPEECH), "--speed", "0.5"]
    home = {"NAUTILUS_MODELS_DIR": str(tmp_path), "NAUTILUS_CACHE_DIR": str(tmp_path), "TERM": "xterm"}
    terminal, theirs = os.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=os.environ | home) as process:
        os.close(theirs)
        shown = ""
        while "timer" not in shown:
            shown += os.read(terminal, 4096).decode()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    os.set_blocking(terminal, False)
    with suppress(OSError):  # nobody is at the other end any more
        while more := os.read(terminal, 4096).decode():
            shown += more
    os.close(terminal)
    assert process.returncode == 0
    assert said == "Listening with nautilus-en-4m; Ctrl-C ends.\n"
    lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines() if line]
    assert lines[-1].startswith("set a timer")
    assert "song" not in shown


class _Microphone:
    """What sounddevice's InputStream does, without a device: calls back from a thread of its own."""

    def __init__(
        self, rate: int, size: int, device: object, channels: int, form: str, callback: Callable[..., None]
    ) -> None:
        assert (rate, device, channels, form) == (16_000, 3, 1, "float32")
        self._size, self._heard = size, callback
        self._thread = threading.Thread(target=self._speak)

    def _speak(self) -> None:
        for start in range(0, len(sample()), self._size):
            data = sample()[start : start + self._size, None]
            self._heard(data, len(data), None, None)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


async def test_the_microphone_is_heard_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = _Microphone, OSError
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    stop = asyncio.Event()
    pieces = []
    async for piece in _microphone("3", stop):
        pieces.append(piece)
        if sum(map(len, pieces)) == len(sample()):
            stop.set()
    assert np.array_equal(np.concatenate(pieces), sample())
