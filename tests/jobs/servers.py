"""Servers as processes that share a place, to be killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

JOBS = "/v1/audio/transcriptions/jobs"


class Server:
    """One server process on a port of its own."""

    def __init__(self, cache: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = cache / f"server-{self.port}.log"
        own = {"NAUTILUS_CACHE_DIR": str(cache), "NAUTILUS_DRAIN_SECONDS": "5", "NAUTILUS_JOBS__POLL_SECONDS": "0.1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nautilus", "serve", "--port", str(self.port)],
                env=os.environ | own | variables,
                stderr=log,
            )

    def wait_until_open(self) -> None:
        """Return when jobs are taken."""
        self.until(lambda: httpx.get(f"{self.url}{JOBS}").is_success)

    def until(self, happened: Callable[[], bool], seconds: float = 90.0) -> None:
        """Return when something has happened. Raises AssertionError if the server ends before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if happened():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)  # noqa: TID251 - another process is awaited
        raise TimeoutError(self.log.read_text())

    def job(self, job: str) -> dict[str, Any]:
        """Return a job's document."""
        return dict(httpx.get(f"{self.url}{JOBS}/{job}").raise_for_status().json())

    def ended(self, job: str) -> bool:
        """Say whether a job has ended."""
        return self.job(job)["status"] not in ("queued", "processing")

    def children(self) -> list[int]:
        """Return the processes that it started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Tell it to end, and wait for that."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=40)


@contextmanager
def serving(cache: Path, **variables: str) -> Iterator[Server]:
    """Run a server until the block ends."""
    server = Server(cache, **variables)
    try:
        server.wait_until_open()
        yield server
    finally:
        server.kill()
