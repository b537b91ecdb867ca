"""A Redis of the tests' own, thrown away at the end."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from tests.storage.postgres import free_port


@dataclass(slots=True)
class RedisServer:
    """A server that can be stopped and started again."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("Redis is not installed; scripts/system-packages.sh does it")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 200)
        with redis.Redis(port=self.port, retry=retry) as client:
            client.ping()

    def stop(self) -> None:
        """Stop it as if the machine had failed."""
        if self.process:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Give a server in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="nautilus-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
