"""Servers that share a PostgreSQL and an S3 store: what befalls these costs time, never jobs."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nautilus.storage.blobs import S3Options
from tests.jobs.servers import Server, serving
from tests.jobs.test_faults import begin, direct, result
from tests.storage.postgres import Postgres
from tests.storage.s3 import new_bucket
from tests.web.clips import spoken

LONG = 900
"""Times the sentence of four seconds: an hour."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour of speech."""
    path = tmp_path_factory.mktemp("recording") / "hour.wav"
    path.write_bytes(spoken(LONG))
    return path


@pytest.fixture
def place(tmp_path: Path, postgres: Postgres) -> dict[str, str]:
    """Settings of servers that share a PostgreSQL database and a folder of blobs."""
    variables = {
        "NAUTILUS_STORAGE__DATA_DIR": str(tmp_path / "data"),
        "NAUTILUS_STORAGE__DATABASE_URL": postgres.new_database(),
        "NAUTILUS_JOBS__CHECKPOINT_SECONDS": "0.2",
        "NAUTILUS_JOBS__DEAD_AFTER": "6",
    }
    upgrade = [sys.executable, "-m", "nautilus", "db", "upgrade"]
    subprocess.run(upgrade, env=os.environ | variables, check=True, capture_output=True)
    return variables


def is_under_way(server: Server, job: str) -> bool:
    return bool(server.job(job)["audio"]["seconds_done"])


@pytest.mark.timeout(240)
def test_a_postgresql_that_crashes_under_a_job_loses_nothing(
    tmp_path: Path, place: dict[str, str], recording: Path, postgres: Postgres
) -> None:
    with serving(tmp_path, **place) as server:
        expected = direct(server, recording)
        job = begin(server, recording)
        server.until(lambda: is_under_way(server, job))
        postgres.restart()
        server.until(lambda: server.ended(job))
        assert server.job(job)["status"] == "completed"
        assert result(server, job) == expected


@pytest.mark.timeout(240)
def test_two_servers_on_one_postgresql_share_jobs_and_one_takes_over_from_the_other(
    tmp_path: Path, place: dict[str, str], recording: Path
) -> None:
    with serving(tmp_path, **place) as one, serving(tmp_path, **place) as other:
        jobs = [begin(one, recording) for _ in range(3)]
        other.until(lambda: all(is_under_way(other, job) for job in jobs[:2]))
        one.kill()
        other.until(lambda: all(other.ended(job) for job in jobs))
        assert {other.job(job)["status"] for job in jobs} == {"completed"}
        assert len({result(other, job) for job in jobs}) == 1


class Gate(socketserver.ThreadingTCPServer):
    """A way to a server that can be closed."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.target = port
        self.is_open = True
        super().__init__(("127.0.0.1", 0), Passage)


class Passage(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Gate)
        if not self.server.is_open:
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            back = threading.Thread(target=self.carry, args=(there, self.request), daemon=True)
            back.start()
            self.carry(self.request, there)
            back.join()

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        assert isinstance(self.server, Gate)
        with suppress(OSError):
            while self.server.is_open and (data := source.recv(65536)):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(port: int) -> Iterator[Gate]:
    with Gate(port) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


@pytest.mark.timeout(300)
def test_a_blob_store_that_is_away_is_waited_for(
    tmp_path: Path, place: dict[str, str], recording: Path, s3: S3Options
) -> None:
    bucket = new_bucket(s3)
    with gate(int(s3.endpoint.rpartition(":")[2])) as way:
        variables = place | {
            "NAUTILUS_STORAGE__BLOBS_URL": f"s3://{bucket}/blobs",
            "NAUTILUS_STORAGE__S3_ENDPOINT": f"http://127.0.0.1:{way.server_address[1]}",
            "NAUTILUS_STORAGE__S3_REGION": s3.region,
            "NAUTILUS_STORAGE__S3_ACCESS_KEY_ID": s3.access_key_id,
            "NAUTILUS_STORAGE__S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        }
        with serving(tmp_path, **variables) as server:
            job = begin(server, recording)
            server.until(lambda: is_under_way(server, job))
            way.is_open = False
            with pytest.raises(TimeoutError):  # longer than the store's own client tries again
                server.until(lambda: False, 40.0)
            assert not server.ended(job)
            way.is_open = True
            server.until(lambda: server.ended(job))
            assert server.job(job)["status"] == "completed"
