"""Who used how much: requests, live streams and jobs are counted, and nobody sees what others used."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from nautilus.settings import Settings
from tests.web.clips import wav
from tests.web.jobs import done, submit, until, working

TRANSCRIPTIONS = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("usage")


@pytest.fixture(scope="module")
def client(settings: Settings, place: Path) -> Iterator[httpx.Client]:
    with working(settings, place) as client:
        yield client


class Book:
    """The rows that were written."""

    def __init__(self, place: Path) -> None:
        self._file = place / "nautilus.db"
        self._seen = self._read()[-1]["id"] if self._read() else 0

    def _read(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._file)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("select * from requests order by id")]

    def new(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many rows that were not there before."""

        def rows() -> list[dict[str, Any]]:
            return [row for row in self._read() if row["id"] > self._seen]

        until(lambda: len(rows()) >= count)
        assert len(rows()) == count
        return rows()


@pytest.fixture
def book(client: httpx.Client, place: Path) -> Book:
    del client  # there must be a server
    return Book(place)


def test_a_request_is_noted_with_its_id_and_its_seconds(client: httpx.Client, book: Book) -> None:
    answer = client.post(TRANSCRIPTIONS, files={"file": wav(3)}, headers={"x-request-id": "mine"})
    assert answer.is_success
    (row,) = book.new(1)
    assert (row["request"], row["kind"], row["status"], row["seconds"]) == ("mine", "request", 200, 3.0)
    assert (row["tenant"], row["key"]) == ("default", None)
    assert row["model"]
    assert 0 < row["latency"] < 60
    assert "zero" not in json.dumps(row)


def test_a_streamed_answer_is_noted_once_it_is_over(client: httpx.Client, book: Book) -> None:
    client.post(TRANSCRIPTIONS, files={"file": wav(2)}, data={"stream": "true"})
    client.post(TRANSCRIPTIONS, files={"file": b"no audio"}, data={"stream": "true"})
    assert [(row["seconds"], row["status"]) for row in book.new(2)] == [(2.0, 200), (0.0, 400)]


def test_a_request_that_fails_is_noted_with_why(client: httpx.Client, book: Book) -> None:
    assert client.post("/transcribe", files={"file": b"no audio"}).status_code == 400
    (row,) = book.new(1)
    assert (row["status"], row["seconds"]) == (400, 0.0)


def test_a_live_stream_is_noted_with_the_sound_that_came(client: httpx.Client, book: Book) -> None:
    url = str(client.base_url).replace("http", "ws").rstrip("/")
    with connect(f"{url}/v1/stream?encoding=pcm16&rate=16000") as socket:
        socket.send(wav(2)[44:])
        socket.send('{"type": "end"}')
        assert list(socket)
    (row,) = book.new(1)
    assert (row["kind"], row["status"], row["seconds"]) == ("stream", 200, 2.0)


def test_a_realtime_session_is_noted_with_the_sound_that_came(client: httpx.Client, book: Book) -> None:
    url = str(client.base_url).replace("http", "ws").rstrip("/")
    with connect(f"{url}/v1/realtime?intent=transcription") as socket:
        audio = base64.b64encode(bytes(2 * 24_000)).decode()
        socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        while json.loads(socket.recv())["type"] != "input_audio_buffer.committed":
            pass
    (row,) = book.new(1)
    assert (row["kind"], row["status"], row["seconds"]) == ("stream", 200, pytest.approx(1.0, abs=0.05))


def test_totals_are_by_day_and_model(client: httpx.Client, book: Book) -> None:
    before = client.get("/v1/usage").json()["data"]
    counted = sum(row["requests"] for row in before), sum(row["seconds"] for row in before)
    client.post(TRANSCRIPTIONS, files={"file": wav(3)})
    done(client, submit(client, 4.0)["id"])
    book.new(2)
    answer = client.get("/v1/usage").json()
    today = datetime.now(UTC).date()
    assert (answer["object"], answer["until"]) == ("list", today.isoformat())
    assert answer["since"] == (today - timedelta(days=30)).isoformat()
    assert {row["day"] for row in answer["data"]} == {today.isoformat()}
    assert {row["tenant"] for row in answer["data"]} == {"default"}
    assert sum(row["requests"] for row in answer["data"]) == counted[0] + 2
    assert sum(row["seconds"] for row in answer["data"]) == pytest.approx(counted[1] + 7.0)


def test_days_without_use_are_empty(client: httpx.Client) -> None:
    answer = client.get("/v1/usage", params={"since": "2001-01-01", "until": "2001-01-31"}).json()
    assert answer == {"object": "list", "since": "2001-01-01", "until": "2001-01-31", "data": []}


@pytest.mark.parametrize(
    "query", [{"since": "yesterday"}, {"since": "2026-02-30"}, {"since": "2026-02-02", "until": "2026-02-01"}]
)
def test_days_that_are_none_are_refused(client: httpx.Client, query: dict[str, str]) -> None:
    refused = client.get("/v1/usage", params=query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "since")


def test_nobody_sees_what_others_used(client: httpx.Client, place: Path, book: Book) -> None:
    client.post(TRANSCRIPTIONS, files={"file": wav(1)})
    book.new(1)
    today = datetime.now(UTC).timestamp()
    with closing(sqlite3.connect(place / "nautilus.db")) as database:
        database.execute(
            "insert into requests (request, at, tenant, kind, model, seconds, latency, status)"
            " values ('x', ?, 'another', 'request', 'secret', 5, 1, 200)",
            (today,),
        )
        database.commit()
    assert "another" not in client.get("/v1/usage").text
