"""A `nautilus serve` process on a free port, as an operator would start it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

PATIENCE = 120.0
"""Seconds until a server must be ready."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    pid: int
    ready_after: float
    """Seconds from the start of the process to its first 200 on /health/ready."""
    logs: IO[str]
    """What it wrote to its standard error so far; JSON, a line for each event."""


@contextmanager
def serve(command: list[str] | None = None, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server (`nautilus serve` unless another command is given), wait until it is ready, stop it at the end."""
    port = free_port()
    command = command or [sys.executable, "-m", "nautilus", "serve"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as logs:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env=os.environ | dict(environment or {}),
            stderr=logs,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process)
            yield Server(url, process.pid, time.perf_counter() - started, logs)
        except (RuntimeError, TimeoutError):
            logs.seek(0)
            sys.stderr.write(logs.read())
            raise
        finally:
            stop(process)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server as an operator would, and for good if it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Ask /health/ready until it says yes. Raises RuntimeError if the process ends, TimeoutError if it takes long."""
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The server ended with {process.returncode}.")
        try:
            if httpx.get(f"{url}/health/ready", timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"The server was not ready within {PATIENCE:.0f} s.")


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process and all its children, shared pages counted once (Linux's PSS)."""
    total = 0
    for process in (pid, *descendants(pid)):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one."""
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and all its living children have had."""
    ticks = 0
    for process in (pid, *descendants(pid)):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
