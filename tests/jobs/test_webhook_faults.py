"""Whoever asked is told of a job's end: once, and at least once with one id when servers are killed; real processes."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.jobs.receiver import SECRET, Receiver, receiving
from tests.jobs.servers import JOBS, Server, serving
from tests.web.clips import SPEECH

KILLS = 8


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@pytest.fixture
def place(tmp_path: Path) -> dict[str, str]:
    """Settings of servers that share a place, and that may tell the loopback."""
    return {
        "NAUTILUS_STORAGE__DATA_DIR": str(tmp_path / "data"),
        "NAUTILUS_JOBS__DEAD_AFTER": "4",
        "NAUTILUS_OUTSIDE__NETWORKS": '["127.0.0.0/8"]',
        "NAUTILUS_OUTSIDE__PORTS": "[]",
        "NAUTILUS_WEBHOOKS__SECRETS": f'["{SECRET}"]',
        "NAUTILUS_WEBHOOKS__TIMEOUT": "2",
        "NAUTILUS_WEBHOOKS__POLL_SECONDS": "0.2",
    }


def begin(server: Server, receiver: Receiver) -> str:
    fields = {"webhook_url": receiver.url, "metadata": '{"case": "17"}', "cache": "false"}
    files = {"file": SPEECH.read_bytes()}
    return str(httpx.post(f"{server.url}{JOBS}", files=files, data=fields, timeout=60).raise_for_status().json()["id"])


def statuses(place: dict[str, str]) -> set[str]:
    with closing(sqlite3.connect(Path(place["NAUTILUS_STORAGE__DATA_DIR"]) / "nautilus.db")) as database:
        return {status for (status,) in database.execute("select status from deliveries")}


def test_a_receiver_is_told_exactly_once(tmp_path: Path, place: dict[str, str], receiver: Receiver) -> None:
    with serving(tmp_path, **place) as server:
        jobs = [begin(server, receiver) for _ in range(3)]
        server.until(lambda: len(receiver.told) >= 3 and statuses(place) == {"delivered"})
        assert sorted(body["data"]["id"] for _, body in receiver.told) == sorted(jobs)
        _, body = receiver.told[0]
        assert body["type"] == "transcription.job.completed"
        assert (body["data"]["status"], body["data"]["metadata"]) == ("completed", {"case": "17"})
        assert server.job(body["data"]["id"]) == body["data"]
    with serving(tmp_path, **place) as server:  # nor is it told again by the next server
        later = begin(server, receiver)
        server.until(lambda: bool(receiver.ids(later)) and statuses(place) == {"delivered"})
        assert len(receiver.told) == 4


@pytest.mark.timeout(300)
def test_kills_at_any_moment_cost_no_webhook_and_change_no_id(
    tmp_path: Path, place: dict[str, str], receiver: Receiver
) -> None:
    chance = random.Random(5)  # noqa: S311 - any moments will do
    receiver.wait = 0.2  # so that some kills come while one is on its way
    jobs = []
    for _ in range(KILLS):
        with serving(tmp_path, **place) as server:
            jobs.append(begin(server, receiver))
            with pytest.raises(TimeoutError):
                server.until(lambda: False, chance.uniform(0.0, 1.2))
            server.kill()
    receiver.wait = 0.0
    with serving(tmp_path, **place) as server:
        server.until(lambda: all(server.ended(job) for job in jobs))
        server.until(lambda: statuses(place) == {"delivered"})
        assert {server.job(job)["status"] for job in jobs} == {"completed"}
    told = {job: set(receiver.ids(job)) for job in jobs}
    assert {len(ids) for ids in told.values()} == {1}
    assert len(set.union(*told.values())) == len(jobs)
