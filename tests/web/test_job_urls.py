"""Recordings that a job fetches: what can't be had fails alone and says why, and inner addresses stay closed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import httpx
import pytest

from nautilus.outside.limits import OutsideLimits
from nautilus.settings import Settings
from tests.web.clips import wav
from tests.web.jobs import JOBS, done, files_of, submit, until, working

SILENCE = 1.0
"""Seconds that a host may be silent."""


class _Files(BaseHTTPRequestHandler):
    """Serves recordings; some of them badly."""

    over = threading.Event()

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name == "/moved.wav":
            self.send_response(302)
            self.send_header("Location", "/good.wav")
            self.end_headers()
        elif name == "/inwards.wav":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
        elif name in ("/good.wav", "/slow.wav", "/silent.wav"):
            self._send(wav(3), name)
        else:
            self.send_error(404)

    def _send(self, body: bytes, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        pause = {"/slow.wav": 0.1, "/silent.wav": 60.0}.get(name, 0.0)
        for place in range(0, len(body), 8192):
            self.wfile.write(body[place : place + 8192])
            if pause and self.over.wait(pause):
                return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_files() -> Iterator[str]:
    """Serve recordings on the loopback; the address."""
    _Files.over.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        _Files.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    with serving_files() as url:
        yield url


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that may ask the loopback."""
    limits = OutsideLimits(networks=(ip_network("127.0.0.0/8"),), ports=(), read_seconds=SILENCE)
    with working(settings, tmp_path_factory.mktemp("urls"), outside=limits) as client:
        yield client


def test_a_recording_is_fetched_and_heard_under_its_name(client: httpx.Client, files: str) -> None:
    job = submit(client, url=[f"{files}/good.wav?token=1"])["id"]
    assert done(client, job)["audio"] == {"seconds_done": 3.0, "seconds_total": 3.0}
    assert client.get(f"{JOBS}/{job}/result").json()["text"] == "zero one two"
    assert files_of(client, job)[0]["name"] == "good.wav"


def test_a_redirect_to_where_one_may_go_is_followed(client: httpx.Client, files: str) -> None:
    assert done(client, submit(client, url=[f"{files}/moved.wav"])["id"])["status"] == "completed"


def test_a_host_that_is_slow_is_waited_for(client: httpx.Client, files: str) -> None:
    assert done(client, submit(client, url=[f"{files}/slow.wav"])["id"])["status"] == "completed"


def test_what_cannot_be_had_fails_alone_with_its_reason(client: httpx.Client, files: str) -> None:
    urls = [
        f"{files}/good.wav",
        f"{files}/none.wav",
        f"{files}/inwards.wav",
        "http://10.0.0.1/private.wav",
        "http://[::1]/private.wav",
        "ftp://example.org/a.wav",
        f"{files}/moved.wav",
    ]
    job = submit(client, url=urls)["id"]
    assert done(client, job)["files"] == {"total": 7, "completed": 2, "failed": 5}
    listed = files_of(client, job)
    assert [file["error"] and file["error"]["code"] for file in listed] == [
        None,
        "fetch_refused",
        "address_refused",
        "address_refused",
        "address_refused",
        "address_refused",
        None,
    ]
    assert "404" in listed[1]["error"]["message"]
    assert [file["url"] for file in listed] == urls


def test_a_host_that_falls_silent_holds_up_no_other_file(client: httpx.Client, files: str) -> None:
    job = submit(client, url=[f"{files}/silent.wav", f"{files}/good.wav"])["id"]
    until(lambda: files_of(client, job)[1]["status"] == "completed")
    assert client.get(f"{JOBS}/{job}/result", params={"file": 1}).json()["text"] == "zero one two"
    assert files_of(client, job)[0]["status"] == "processing", "it is tried again"
    assert client.post(f"{JOBS}/{job}/cancel").json()["files"] == {"total": 2, "completed": 1, "failed": 0}


def test_the_loopback_is_closed_unless_the_operator_opens_it(
    settings: Settings, files: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    del files
    limits = OutsideLimits(ports=())
    with working(settings, tmp_path_factory.mktemp("closed"), outside=limits) as client:
        ended = done(client, submit(client, url=["http://127.0.0.1:1/a.wav"])["id"])
        assert (ended["status"], ended["error"]["code"]) == ("failed", "address_refused")
