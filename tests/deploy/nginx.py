"""Real nginx with the configuration of `deploy/nginx`, on a free port of the loopback."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

CONFIGURATION = ROOT / "deploy" / "nginx" / "nautilus.conf"
MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/errors.log info;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/nautilus.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx."""

    url: str
    folder: Path

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its access log."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]


def program() -> str:
    """Return the path of nginx, which Debian keeps out of the way of people."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip("nginx is not here")
    return found


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write(folder: Path, addresses: Sequence[str], port: int, *, tls: bool = False) -> Path:
    """Write our configuration for these two servers, and a main one around it; the path of that."""
    text = CONFIGURATION.read_text()
    for name, address in zip(("nautilus-1:8000", "nautilus-2:8000"), addresses, strict=True):
        assert name in text
        text = text.replace(name, address)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};")
    text = text.replace("/dev/stdout", f"{folder}/access.log").replace("/etc/nginx/tls", str(folder))
    if tls:
        text = re.sub(r"#tls ", "", text).replace("listen 443 ", f"listen 127.0.0.1:{free_port()} ")
    (folder / "nautilus.conf").write_text(text)
    main = folder / "nginx.conf"
    main.write_text(MAIN.format(folder=folder))
    return main


def check(main: Path) -> subprocess.CompletedProcess[str]:
    """Let nginx read a configuration and say what it thinks of it."""
    return subprocess.run(
        [program(), "-t", "-e", "stderr", "-p", str(main.parent), "-c", str(main)],
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def fronting(folder: Path, urls: Sequence[str]) -> Iterator[Nginx]:
    """Run nginx before these two servers."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    main = write(folder, [url.removeprefix("http://") for url in urls], port)
    command = [program(), "-e", "stderr", "-p", str(folder), "-c", str(main)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _await_port(process, port)
        yield Nginx(f"http://127.0.0.1:{port}", folder)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _await_port(process: subprocess.Popen[str], port: int) -> None:
    while True:
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            continue
        return
