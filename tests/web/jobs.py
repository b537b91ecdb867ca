"""Jobs, as tests over HTTP begin them and wait for them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.settings import StorageSettings
from tests.conftest import fake_engine, running
from tests.web.clips import wav

JOBS = "/v1/audio/transcriptions/jobs"


@contextmanager
def working(settings: Settings, folder: Path, **others: Any) -> Iterator[httpx.Client]:
    """Run a server that works on jobs, with a model that hears one word a second; a client of it."""
    own = {"jobs": JobLimits(max_files=300, poll_seconds=0.1), "storage": StorageSettings(data_dir=folder)}
    with running(settings.model_copy(update=own | others), fake_engine) as url, httpx.Client(base_url=url) as client:
        until(lambda: client.get(JOBS).is_success)
        yield client


def until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return when something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # noqa: TID251 - another thread is awaited


def submit(
    client: httpx.Client, *seconds: float, headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """Begin a job with recordings of so many seconds; its document."""
    files = [("file", (f"{number}.wav", wav(length))) for number, length in enumerate(seconds)]
    sent: dict[str, Any] = {"files": files, "data": fields} if files else {"json": fields}
    answer = client.post(JOBS, **sent, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{JOBS}/{answer.json()['id']}"
    return dict(answer.json())


def done(client: httpx.Client, job: str) -> dict[str, Any]:
    """Wait for a job's end; its document."""

    def ended() -> bool:
        return client.get(f"{JOBS}/{job}").json()["status"] not in ("queued", "processing")

    until(ended)
    return dict(client.get(f"{JOBS}/{job}").json())


def files_of(client: httpx.Client, job: str) -> list[dict[str, Any]]:
    """Return the documents of a job's files."""
    return list(client.get(f"{JOBS}/{job}/files", params={"limit": 1000}).json()["data"])
