"""An S3 API server on the loopback."""

import os
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from nautilus.storage.blobs import S3Options
from tests.storage.postgres import free_port

SERVER = Path(__file__).parents[2] / ".venv-s3" / "bin" / "moto_server"


@contextmanager
def running_s3() -> Iterator[S3Options]:
    """Give what to reach a server by: that of NAUTILUS_TEST_S3, or one of our own."""
    if url := os.environ.get("NAUTILUS_TEST_S3"):
        yield _options(url)
        return
    if not SERVER.exists():
        pytest.skip("there is no S3 server; `make .venv-s3/.done` installs one")
    url = f"http://127.0.0.1:{free_port()}"
    command: list[str | Path] = [SERVER, "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(url, process)
            yield _options(url)
        finally:
            process.terminate()


def new_bucket(options: S3Options) -> str:
    """Make a bucket; its name. The server of the tests asks for no signature."""
    name = f"nautilus-{uuid.uuid4().hex[:12]}"
    httpx.put(f"{options.endpoint}/{name}").raise_for_status()
    return name


def _options(url: str) -> S3Options:
    return S3Options(url, "us-east-1", "key", "secret")


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    pause = threading.Event()
    while process.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            pause.wait(0.05)
        else:
            return
    raise RuntimeError(f"{SERVER} ended with {process.returncode}")
