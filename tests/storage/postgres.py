"""A PostgreSQL of the tests' own, thrown away at the end."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that runs."""

    url: str
    """Its address, without a database."""
    programs: Path | None = None
    data: Path | None = None

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        import psycopg

        name = f"nautilus_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(f"{self.url}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{self.url}/{name}"

    def restart(self) -> None:
        """Stop it as if the machine had failed, and start it again."""
        if self.data is None or self.programs is None:
            pytest.skip("the PostgreSQL of NAUTILUS_TEST_POSTGRES is not ours to restart")
        _run([self.programs / "pg_ctl", "-D", self.data, "-m", "immediate", "-w", "restart"], self.data)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Give the server at NAUTILUS_TEST_POSTGRES, or one in a temporary folder."""
    if url := os.environ.get("NAUTILUS_TEST_POSTGRES"):
        yield Postgres(url.rstrip("/"))
        return
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="nautilus-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    port, data = free_port(), folder / "data"
    try:
        _run([programs / "initdb", "-D", data, "-U", "nautilus", "-A", "trust", "-E", "UTF8", "--no-sync"], folder)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\nfsync=off\n"
            )
        _run([programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "start"], folder)
        yield Postgres(f"postgresql://nautilus@127.0.0.1:{port}", programs, data)
        _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if anywhere := shutil.which("initdb"):
        return Path(anywhere).parent
    pytest.skip("PostgreSQL is not installed; scripts/system-packages.sh does it")


def _run(command: list[Path | str], folder: Path) -> None:
    """Run it as somebody who may: PostgreSQL refuses root."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as the server that is started
        done = subprocess.run([*as_user, *map(str, command)], cwd=folder, stdout=output, stderr=output, check=False)
        output.seek(0)
        if done.returncode:
            raise RuntimeError(output.read().decode())


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
