"""Connections that take their time, or take more than their share: each ends by itself, whatever its client does.

Limits are short here; the tests only wait for ends, which a server without them never makes.
"""

import json
import select
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from nautilus.settings import HttpLimits, Settings
from nautilus.web.middleware import patience
from tests.conftest import fake_engine, running
from tests.web.clips import wav
from tests.web.jobs import until, working

SHORT = HttpLimits(head_seconds=0.3, head_bytes=4096, body_idle=0.4, body_rate=1000, unread=0.5, message_bytes=4096)
POST = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with running(settings.model_copy(update={"http": SHORT}), fake_engine) as url:
        yield url


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30)


def heard(connection: socket.socket) -> bytes:
    """Return all that comes until the server ends the connection."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def told(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: local"], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_ends_the_connection(url: str, head: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(head)
        assert heard(connection) == b""


def test_a_client_that_hangs_up_in_the_middle_of_its_body_is_no_failure(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with connected(url) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n--b\r\n")
    until(lambda: 'status="499"' in httpx.get(f"{url}/metrics").text)
    assert "request failed" not in capfd.readouterr().err


def test_a_second_head_is_waited_for_no_longer(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health/li")
        assert heard(connection).count(b"HTTP/1.1 200") == 1


def test_a_head_that_never_ends_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(2000)))
        assert told(heard(connection)) == (431, "head_too_large")


def test_what_is_no_http_is_told_so_in_the_shape_of_all_refusals(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert told(heard(connection)) == (400, "bad_request")


@pytest.mark.parametrize("length", [b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_does_not_come_on_is_given_up(url: str, length: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(POST + length)
        assert told(heard(connection)) == (408, "body_too_slow")


def test_a_job_s_file_that_does_not_come_on_is_given_up(jobs: str) -> None:
    with connected(jobs) as connection:
        head = POST.replace(b"transcriptions", b"transcriptions/jobs") + b"Content-Length: 5000\r\n\r\n"
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        connection.sendall(head + part + bytes(1000))
        assert told(heard(connection)) == (408, "body_too_slow")


@pytest.fixture(scope="module")
def jobs(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with working(settings.model_copy(update={"http": SHORT}), tmp_path_factory.mktemp("slow")) as client:
        yield str(client.base_url).rstrip("/")


def test_a_trickle_is_waited_for_only_as_long_as_it_brings_something() -> None:
    limits = HttpLimits(body_idle=60, body_rate=500)
    assert patience(0, 0, limits) == 60
    assert patience(100, 59, limits) == pytest.approx(1.2)  # a byte a minute: over after one
    assert patience(0, 60, limits) == 0
    assert patience(10**9, 3600, limits) == 60  # fast for an hour, and then silent
    assert patience(10**6, 2000, limits) == 60  # 500 bytes a second, for ever
    assert patience(10**6, 2100, limits) == 0
    assert patience(1, 10**6, HttpLimits(body_rate=0)) == 60


def test_a_body_in_no_hurry_is_waited_for(url: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + wav(2) + b"\r\n--b--\r\n"
    with connected(url) as connection, connection.makefile("rb") as answer:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body))
        for place in range(0, len(body), 8192):
            select.select([], [], [], 0.05)
            connection.sendall(body[place : place + 8192])
        assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("size", [7, 1000, 65_536])
def test_a_body_in_many_pieces_is_taken_whole(url: str, size: int) -> None:
    sound = wav(12)  # some 400 kB: more than is read before somebody wants it
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + sound + b"\r\n--b--\r\n"
    pieces = (body[place : place + size] for place in range(0, len(body), size))
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with connected(url) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunked)
        text = json.loads(heard(connection).partition(b"\r\n\r\n")[2])["text"]
    assert len(text.split()) == 12


def test_who_sends_on_after_the_answer_is_cut_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nautilus.web.protocols.LINGER", 0.3)
    with connected(url) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        assert heard(connection).startswith(b"HTTP/1.1 404")


def test_who_reads_no_answer_is_cut_off(url: str) -> None:
    with connected(url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0)
        ask = memoryview(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100_000)
        while ask:
            try:
                ask = ask[connection.send(ask) :]
            except BlockingIOError:
                break
        cut = select.poll()  # what was not read of the requests makes the end a reset
        cut.register(connection, 0)  # tells of errors and ends only
        assert cut.poll(30_000)


def test_words_are_no_recordings_and_take_no_gigabyte(url: str) -> None:
    answer = httpx.post(f"{url}/v1/realtime/client_secrets", content=b" " * (1024**2 + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")
