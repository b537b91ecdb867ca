"""The command as a process: it starts, answers, and ends cleanly."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.engines.sounds import sample
from tests.web.clips import SPEECH, spoken
from tests.web.test_resume import break_off
from tests.web.test_stream import HEARD, pcm

COMMAND = (sys.executable, "-m", "nautilus")


@contextmanager
def serving(tmp_path: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"NAUTILUS_CACHE_DIR": str(tmp_path), "NAUTILUS_STORAGE__DATA_DIR": str(tmp_path / "data")}
    environment = os.environ | own | {"NAUTILUS_DRAIN_SECONDS": "5"} | variables
    process = subprocess.Popen(
        [*COMMAND, "serve", "--port", str(port)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: httpx.get(f"{url}/health/ready").is_success, process)
        yield process, url
    finally:
        process.kill()
        process.communicate()


def _wait(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            if happened():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)  # noqa: TID251 - another process is awaited
    raise TimeoutError


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    """What a process runs; nothing if it has ended, even if nobody has noticed yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_cleanly_when_told_to(tmp_path: Path, stop: signal.Signals) -> None:
    with serving(tmp_path) as (process, url):
        answer = httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()})
        assert answer.json()["text"]
        process.send_signal(stop)
        _, logs = process.communicate(timeout=20)
    assert process.returncode in (0, -stop, 128 + stop)
    assert "Traceback" not in logs


def test_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        path, files = f"{url}/v1/audio/transcriptions", {"file": spoken(10)}
        with httpx.stream("POST", path, files=files, data={"stream": "true"}, timeout=30) as answer:
            process.send_signal(signal.SIGTERM)
            events = [line for line in answer.iter_lines() if line]
        assert events[-1] == "data: [DONE]"
        process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)


def test_live_speech_under_way_is_told_before_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        with connect(f"{url.replace('http', 'ws')}/v1/stream?delay=xhigh", compression=None) as connection:
            connection.send(pcm(sample()))
            assert json.loads(connection.recv())["type"] == "ready"
            assert json.loads(connection.recv())["type"] == "speech_started"
            process.send_signal(signal.SIGTERM)
            events = [json.loads(message) for message in _until_closed(connection)]
            assert [event["type"] for event in events][-2:] == ["final", "end"]
            assert events[-2]["text"] == HEARD
            assert connection.close_code == 1012
        process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_stream_kept_for_a_vanished_client_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        with connect(f"{url.replace('http', 'ws')}/v1/stream", compression=None) as connection:
            connection.send(pcm(sample()))
            connection.recv()
            break_off(connection, 0)
        process.send_signal(signal.SIGTERM)
        _, logs = process.communicate(timeout=15)  # less than the 30 s that it would be kept
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in logs


def _until_closed(connection: ClientConnection) -> Iterator[str | bytes]:
    with suppress(ConnectionClosed):
        while True:
            yield connection.recv(timeout=20)


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, _):
        children = _children(process.pid)
        assert children
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_server_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        children = _children(process.pid)
        httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()})
        process.kill()
        process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(map(_command, children)):
        time.sleep(0.05)  # noqa: TID251 - other processes are awaited
    assert not [child for child in children if _command(child)]


def test_a_model_whose_process_is_killed_answers_the_next_request(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url):
        before = httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()}).json()["text"]
        (model,) = [child for child in _children(process.pid) if "model_process" in _command(child)]
        os.kill(model, signal.SIGKILL)
        answer = httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=30)
        assert answer.json()["text"] == before


def test_a_wrong_setting_ends_it_with_a_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"NAUTILUS_CACHE_DIR": str(tmp_path), "NAUTILUS_WORKERS": "8"}
    result = subprocess.run([*COMMAND, "serve"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Unknown setting NAUTILUS_WORKERS" in result.stderr
    assert "Traceback" not in result.stderr


def test_control_c_stops_a_transcription_quietly(tmp_path: Path) -> None:
    recording = tmp_path / "long.wav"
    recording.write_bytes(spoken(600))
    process = subprocess.Popen(
        [*COMMAND, "transcribe", str(recording)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    time.sleep(2.5)  # noqa: TID251 - long enough to be at work, whatever it is at
    process.send_signal(signal.SIGINT)
    _, notes = process.communicate(timeout=20)
    assert "Traceback" not in notes
    assert process.returncode in (0, 130)
