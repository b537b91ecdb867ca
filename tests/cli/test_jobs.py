"""Jobs from the command line, at real servers."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.cli import sending
from nautilus.cli.asking import JobServer
from nautilus.cli.sending import gather, send
from nautilus.cli.watching import _file_name
from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from tests.web.clips import wav
from tests.web.jobs import JOBS, done, submit, working

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def client(settings: Settings, place: Path) -> Iterator[httpx.Client]:
    with working(settings, place, jobs=JobLimits(poll_seconds=0.1)) as client:
        yield client


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings."""
    folder = tmp_path_factory.mktemp("talks")
    (folder / "one.wav").write_bytes(wav(1))
    (folder / 'two "quoted" ü.wav').write_bytes(wav(2))
    (folder / "notes.txt").write_text("no recording")
    return folder


def jobs(client: httpx.Client, *arguments: str, **variables: str) -> Done:
    """Run the command on its own."""
    command = [sys.executable, "-m", "nautilus", "jobs", *arguments]
    environment = os.environ | {"NAUTILUS_URL": str(client.base_url), "COLUMNS": "200"} | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_a_folder_is_sent_watched_and_fetched(client: httpx.Client, talks: Path, tmp_path: Path) -> None:
    began = jobs(client, "submit", str(talks), "--metadata", "case=17", "--priority", "high", "--watch")
    assert began.returncode == 0, began.stderr
    job = began.stdout.strip()
    assert "completed: 2 of 2 files, 3.0 s of audio" in began.stderr
    document = client.get(f"{JOBS}/{job}").json()
    assert (document["metadata"], document["priority"]) == ({"case": "17"}, "high")
    fetched = jobs(client, "result", job, "-o", str(tmp_path / "out"), "--format", "srt")
    assert fetched.returncode == 0, fetched.stderr
    texts = {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}
    assert set(texts) == {"one.srt", "two _quoted_ ü.srt"}
    assert re.findall("[a-z]+", texts["two _quoted_ ü.srt"]) == ["zero", "one"]
    assert "-->" in texts["one.srt"]


def test_results_are_printed_under_their_names_or_as_json_lines(client: httpx.Client, talks: Path) -> None:
    job = jobs(client, "submit", str(talks), "-w").stdout.strip()
    printed = jobs(client, "result", job).stdout
    assert printed == '# one.wav\nzero\n# two "quoted" ü.wav\nzero one\n'
    lines = jobs(client, "result", job, "--format", "json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["zero", "zero one"]
    assert jobs(client, "result", job, "--file", "1").stdout == "zero one\n"


def test_a_manifest_names_files_that_are_here_and_addresses(client: httpx.Client, talks: Path) -> None:
    manifest = talks.parent / "manifest.jsonl"
    rows = [{"audio_filepath": f"{talks.name}/one.wav", "text": "zero"}, {"url": "https://127.0.0.1/a.wav"}]
    manifest.write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")
    began = jobs(client, "submit", "--manifest", str(manifest), "-w")
    assert began.returncode == 1
    assert "completed: 1 of 3 files" in began.stderr
    assert "a.wav: " in began.stderr
    assert "is not JSON" in began.stderr


def test_jobs_are_listed_cancelled_retried_and_deleted(client: httpx.Client) -> None:
    job = submit(client, 1.0)["id"]
    done(client, job)
    assert job in jobs(client, "list").stdout
    (line,) = jobs(client, "list", "--json", "--limit", "1").stdout.splitlines()
    assert json.loads(line)["id"] == job
    assert "nothing to cancel" in jobs(client, "cancel", job).stderr
    bad = client.post(JOBS, files={"file": b"no audio"}).json()["id"]
    done(client, bad)
    assert "queued" in jobs(client, "retry", bad).stderr
    assert jobs(client, "watch", bad).returncode == 1
    assert "deleted" in jobs(client, "delete", job, bad).stderr
    assert client.get(f"{JOBS}/{job}").status_code == 404


def test_the_same_key_gives_the_same_job(client: httpx.Client, talks: Path) -> None:
    arguments = ("submit", str(talks / "one.wav"), "--idempotency-key", "once")
    assert jobs(client, *arguments).stdout == jobs(client, *arguments).stdout != ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("submit",), "There is nothing to send"),
        (("submit", "nothing.wav"), "There is no file nothing.wav"),
        (("submit", "-"), "no standard input"),
        (("submit", "https://example.org/a.wav", "--metadata", "case"), "--metadata is name=value"),
        (("submit", "https://example.org/a.wav", "--model", "nothing"), "There is no model named 'nothing'"),
        (("submit", "--manifest", "nothing.jsonl"), "nothing.jsonl can't be read"),
        (("watch", "job_none"), "There is no job job_none"),
        (("result", "job_none", "--format", "docx"), "--format must be one of"),
        (("list", "--url", "http://127.0.0.1:9"), "There is no server at http://127.0.0.1:9"),
        (("list", "--url", "127.0.0.1"), "--url must begin with"),
    ],
)
def test_mistakes_end_in_a_sentence(client: httpx.Client, arguments: tuple[str, ...], says: str) -> None:
    result = jobs(client, *arguments)
    assert result.returncode == 1
    assert says in re.sub(r"\s+", " ", result.stderr)
    assert "Traceback" not in result.stderr


def test_much_is_uploaded_file_by_file(client: httpx.Client, talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MUCH", 1000)
    told: list[int] = []
    parcel = gather([str(talks)], [])
    with JobServer(str(client.base_url), None) as server:
        job = send(server, parcel, [], None, told.append)["id"]
    assert done(client, job)["files"] == {"total": 2, "completed": 2, "failed": 0}
    assert sum(told) == parcel.size
    names = [file["name"] for file in client.get(f"{JOBS}/{job}/files").json()["data"]]
    assert names == ["one.wav", 'two "quoted" ü.wav']


def test_ten_thousand_files_are_sent_with_few_of_them_open(client: httpx.Client, tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}.wav").write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = [sys.executable, "-m", "nautilus", "jobs", "submit", str(tmp_path), "--url", str(client.base_url)]
    began = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    assert began.returncode == 0, began.stderr
    job = began.stdout.strip()
    assert client.get(f"{JOBS}/{job}").json()["files"]["total"] == 10_000
    client.delete(f"{JOBS}/{job}", timeout=60)


class Dropping:
    """Stands between a client and a server, and drops each connection so many bytes after it was asked for events."""

    def __init__(self, target: int, after: int) -> None:
        self._target = target
        self._after = after
        self._front = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._front.getsockname()[1]}"
        self.asked: list[bytes] = []

    def accept(self) -> None:
        """Carry whoever comes, until closed."""
        with suppress(OSError):
            while True:
                near, _ = self._front.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                for carry in (self._ask, self._answer):
                    threading.Thread(target=carry, args=(near, far), daemon=True).start()

    def close(self) -> None:
        """Accept nobody any more."""
        self._front.shutdown(socket.SHUT_RDWR)
        self._front.close()

    def _ask(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while request := near.recv(65536):
                self.asked.append(request)
                far.sendall(request)

    def _answer(self, near: socket.socket, far: socket.socket) -> None:
        left = self._after
        with near, far, suppress(OSError):
            while left > 0 and (data := far.recv(4096)):
                events = b"/events" in self.asked[-1]
                near.sendall(data[:left] if events else data)
                left -= len(data) if events else 0
            near.shutdown(socket.SHUT_RDWR)


def test_watching_goes_on_behind_the_last_event_when_the_connection_drops(client: httpx.Client) -> None:
    job = submit(client, 1.0)["id"]
    done(client, job)
    proxy = Dropping(int(client.base_url.port or 0), 900)
    threading.Thread(target=proxy.accept, daemon=True).start()
    watched = jobs(client, "watch", job, NAUTILUS_URL=proxy.url)
    proxy.close()
    assert watched.returncode == 0, watched.stderr
    assert "The connection dropped" in watched.stderr
    resumed = [re.search(rb"last-event-id: (\d+)", request.lower()) for request in proxy.asked if b"/events" in request]
    numbers = [int(found[1]) for found in resumed if found]
    assert numbers[0] == 0
    assert len(numbers) > 1
    assert numbers == sorted(set(numbers)), "no event was asked for twice"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("talk.mp3", "talk.srt"),
        ("../../etc/passwd", "passwd.srt"),
        ("C:\\talks\\a.wav", "a.srt"),
        ("..", "recording.srt"),
        ("", "recording.srt"),
        ("a\0b:c.wav", "a_b_c.srt"),
    ],
)
def test_a_recordings_name_leads_nowhere_else(name: str, file: str) -> None:
    assert _file_name(name, ".srt", set()) == file


def test_recordings_of_one_name_do_not_write_over_each_other() -> None:
    taken: set[str] = set()
    names: list[Any] = [_file_name("a.wav", ".srt", taken) for _ in range(3)]
    assert names == ["a.srt", "a-2.srt", "a-3.srt"]
