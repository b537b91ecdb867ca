"""A server in a process of its own, as it is run: what breaks it breaks nothing else, and its log can be read."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs."""

    url: str
    pid: int
    log: Path

    def faults(self) -> list[str]:
        """Return what it logged as an error."""
        lines = (line for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
        return [line for line in lines if json.loads(line).get("level") in ("error", "critical")]

    def descriptors(self) -> int:
        """Return how many files and connections it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Return the bytes of memory that it has to itself."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return 1024 * int(text.partition("RssAnon:")[2].split()[0])


@contextmanager
def serving(**settings: str) -> Iterator[Serving]:
    """Run `nautilus serve` on a free port of the loopback. `settings` are variables without their prefix."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home, (Path(home) / "log").open("w+") as log:
        folders = {"MODELS_DIR": "models", "CACHE_DIR": "cache", "STORAGE__DATA_DIR": "data"}
        own = {name: str(Path(home) / folder) for name, folder in folders.items()}
        own |= {"PORT": str(port), "LOG_FORMAT": "json", "LOG_LEVEL": "warning"} | settings
        environment = os.environ | {f"NAUTILUS_{name}": value for name, value in own.items()}
        process = subprocess.Popen([sys.executable, "-m", "nautilus", "serve"], stderr=log, env=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(url, process)
            yield Serving(url, process.pid, Path(log.name))
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
