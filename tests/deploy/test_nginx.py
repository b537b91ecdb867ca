"""Real nginx before real servers."""

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.deploy.nginx import Nginx, check, free_port, fronting, write
from tests.engines.sounds import sample
from tests.test_processes import serving
from tests.web.clips import SPEECH, spoken
from tests.web.test_stream import HEARD, converse, finals, opened, pcm


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of two servers, the first with a place for one live stream."""
    folder = tmp_path_factory.mktemp("pair")
    with serving(folder, NAUTILUS_BATCH__MAX_STREAMS="1") as (_, one), serving(folder) as (_, two):
        yield one, two


@pytest.fixture(scope="module")
def nginx(pair: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with fronting(tmp_path_factory.mktemp("nginx"), pair) as running:
        yield running


def transcribe(url: str) -> httpx.Response:
    return httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=30)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


@pytest.mark.parametrize("tls", [False, True])
def test_nginx_takes_the_configuration_with_tls_and_without(tmp_path: Path, *, tls: bool) -> None:
    if tls:
        key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    answer = check(write(tmp_path, ["127.0.0.1:1", "127.0.0.1:2"], free_port(), tls=tls))
    assert answer.returncode == 0, answer.stderr
    assert "warn" not in answer.stderr
    assert ("ssl_certificate_key" in (tmp_path / "nautilus.conf").read_text().replace("#tls ssl", "")) == tls


def test_uploads_go_through(nginx: Nginx) -> None:
    for _ in range(4):
        assert transcribe(nginx.url).json()["text"] == HEARD


def test_an_upload_is_not_collected_before_the_server_sees_it(nginx: Nginx) -> None:
    with socket.create_connection(("127.0.0.1", port_of(nginx.url)), 10) as connection:
        too_many = 1024**3 + 1
        head = f"POST /transcribe HTTP/1.1\r\nHost: localhost\r\nContent-Length: {too_many}\r\n\r\n"
        connection.sendall(head.encode())  # and nothing of the body
        answer = b""
        while b"}}" not in answer and (piece := connection.recv(4096)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"upload_too_large"' in answer


def test_events_come_one_by_one(nginx: Nginx) -> None:
    files, data = {"file": spoken(200)}, {"stream": "true"}
    started = time.monotonic()
    with httpx.stream("POST", f"{nginx.url}/v1/audio/transcriptions", files=files, data=data, timeout=50) as answer:
        deltas = (line for line in answer.iter_lines() if "transcript.text.delta" in line)
        arrived = [time.monotonic() - started for _ in deltas]
    ended = time.monotonic() - started
    assert len(arrived) >= 5
    assert arrived[-1] - arrived[0] > ended / 4


def test_live_streams_go_through(nginx: Nginx) -> None:
    assert finals(converse(nginx.url, [pcm(sample())])) == [HEARD]


def test_a_live_stream_that_one_server_has_no_place_for_goes_to_the_other(nginx: Nginx, pair: tuple[str, str]) -> None:
    with opened(pair[0]) as taken:
        assert json.loads(taken.recv(timeout=10))["type"] == "ready"
        with opened(nginx.url) as first, opened(nginx.url) as second, opened(nginx.url) as third:
            for stream in (first, second, third):
                assert json.loads(stream.recv(timeout=10))["type"] == "ready"


def test_metrics_are_not_for_everybody(nginx: Nginx) -> None:
    assert httpx.get(f"{nginx.url}/metrics").status_code == 404


def test_the_callers_request_id_is_kept_and_logged(nginx: Nginx) -> None:
    given = httpx.get(f"{nginx.url}/v1/models", headers={"x-request-id": "mine-1"})
    made = httpx.get(f"{nginx.url}/v1/models")
    assert given.headers["x-request-id"] == "mine-1"
    assert len(made.headers["x-request-id"]) == 32
    logged = {line["request_id"] for line in nginx.log()}
    assert {"mine-1", made.headers["x-request-id"]} <= logged


def test_a_killed_server_is_not_missed(pair: tuple[str, str], tmp_path: Path) -> None:
    with serving(tmp_path) as (process, url), fronting(tmp_path / "nginx", (url, pair[1])) as nginx:
        assert transcribe(nginx.url).is_success
        process.kill()
        process.wait()
        assert [transcribe(nginx.url).status_code for _ in range(8)] == [200] * 8
        assert finals(converse(nginx.url, [pcm(sample())])) == [HEARD]


def test_a_server_that_stops_answers_what_it_has_and_gets_nothing_new(pair: tuple[str, str], tmp_path: Path) -> None:
    patient = serving(tmp_path, NAUTILUS_DRAIN_SECONDS="30")
    with patient as (process, url), fronting(tmp_path / "nginx", (url, pair[1])) as nginx:
        files, data = {"file": spoken(200)}, {"stream": "true"}
        with httpx.stream("POST", f"{url}/v1/audio/transcriptions", files=files, data=data, timeout=50) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            _await_refusal(port_of(url))
            assert [transcribe(nginx.url).status_code for _ in range(6)] == [200] * 6
            assert [line for line in lines if line][-1] == "data: [DONE]"
        answered_by = [line["server"].split(", ")[-1] for line in nginx.log() if line["path"] == "/transcribe"]
        assert answered_by == [f"127.0.0.1:{port_of(pair[1])}"] * 6


def _await_refusal(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionError:
            return


def test_no_server_at_all_is_told_as_clients_expect_it(tmp_path: Path) -> None:
    nobody = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with fronting(tmp_path / "nginx", nobody) as nginx:
        answer = transcribe(nginx.url)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["code"] == "overloaded"


class Echo(BaseHTTPRequestHandler):
    """Answers with the head of the request."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Keep quiet."""


@contextmanager
def echoing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_servers_learn_who_asks_and_under_which_name(tmp_path: Path) -> None:
    with echoing() as url, fronting(tmp_path / "nginx", (url, url)) as nginx:
        head = httpx.get(f"{nginx.url}/", headers={"host": "speech.example", "x-forwarded-for": "10.0.0.9"}).json()
    assert head["host"] == head["x-forwarded-host"] == "speech.example"
    assert head["x-forwarded-for"] == "10.0.0.9, 127.0.0.1"
    assert head["x-forwarded-proto"] == "http"
    assert head["connection"] == "close"
    assert "upgrade" not in head
