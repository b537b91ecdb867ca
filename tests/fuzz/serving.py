"""A server in a process of its own, as it is run: what breaks it breaks nothing else, and its log can be read."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def serving(**settings: str) -> Iterator[str]:
    """Run `nautilus serve` on a free port of the loopback; its URL. `settings` are variables without their prefix."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w+") as log:
        folders = {"MODELS_DIR": "models", "CACHE_DIR": "cache", "STORAGE__DATA_DIR": "data"}
        own = {name: str(Path(home) / folder) for name, folder in folders.items()} | {"PORT": str(port)} | settings
        environment = os.environ | {f"NAUTILUS_{name}": value for name, value in own.items()}
        process = subprocess.Popen([sys.executable, "-m", "nautilus", "serve"], stderr=log, env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)  # noqa: TID251 - another process is awaited
    raise TimeoutError(url)
