"""One file from a hub, going on where an earlier attempt stopped, and checked when it is whole."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from nautilus.errors import ModelLoadError
from nautilus.hubs.client import check_status
from nautilus.hubs.offer import RemoteFile
from nautilus.hubs.source import Source

CHUNK: Final = 1 << 20
"""Bytes read at once of what is here already."""
ATTEMPTS: Final = 4
"""Connections in a row that may end without having brought anything."""


def part_of(file: RemoteFile, folder: Path) -> Path:
    """Return where a file lies until it is whole. Another content has another name."""
    target = folder / file.path
    return target.with_name(f".{target.name}.{file.identity}.part")


def download(client: httpx.Client, file: RemoteFile, folder: Path, source: Source, tell: Callable[[int], None]) -> str:
    """Bring a file into `folder` and return its SHA-256; `tell` hears how much of it is here.

    What is here already is checked, not fetched. Raises ModelLoadError, httpx.HTTPError.
    """
    target, part = folder / file.path, part_of(file, folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        target.rename(part)
    with part.open("a+b") as sink:
        arriving = Arriving(file, sink, tell)
        _all(client, file, source, arriving)
        sink.flush()
        os.fsync(sink.fileno())
    try:
        sha256 = arriving.check(source)
    except ModelLoadError:
        part.unlink()
        raise
    part.rename(target)
    return sha256


class Arriving:
    """What is here of a file, and its checksums so far."""

    def __init__(self, file: RemoteFile, sink: BinaryIO, tell: Callable[[int], None]) -> None:
        self._file = file
        self._sink = sink
        self._tell = tell
        self._begin()
        sink.seek(0)
        while block := sink.read(CHUNK):
            self._count(block)

    def __repr__(self) -> str:
        return f"<Arriving {self._file.path} {self.size} of {self._file.size}>"

    def restart(self) -> None:
        """Forget what is here."""
        self._sink.truncate(0)
        self._begin()

    def append(self, block: bytes) -> None:
        """Keep what came."""
        self._sink.write(block)
        self._count(block)

    def check(self, source: Source) -> str:
        """Return the SHA-256. Raises ModelLoadError if this is not what the hub promised."""
        sha256, git = self._sha256.hexdigest(), self._git.hexdigest()
        promised, found = (self._file.sha256, sha256) if self._file.sha256 else (self._file.git, git)
        if self.size != self._file.size or (promised and promised != found):
            raise ModelLoadError(
                f"{self._file.path} of {source} arrived with a wrong checksum ({self.size} bytes, {found}; "
                f"promised were {self._file.size} bytes, {promised or 'without a checksum'}) and was removed. "
                "Try again; if it stays so, a proxy or a mirror changes files."
            )
        return sha256

    def _begin(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._git = hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)

    def _count(self, block: bytes) -> None:
        self.size += len(block)
        self._sha256.update(block)
        if self._file.git:
            self._git.update(block)
        self._tell(self.size)


def _all(client: httpx.Client, file: RemoteFile, source: Source, arriving: Arriving) -> None:
    """Fetch what is missing, over as many connections as it takes while they bring something."""
    fruitless = 0
    while arriving.size < file.size:
        before = arriving.size
        try:
            if not _more(client, file, source, arriving):
                return
        except httpx.TransportError:
            fruitless = 0 if arriving.size > before else fruitless + 1
            if fruitless == ATTEMPTS:
                raise


def _more(client: httpx.Client, file: RemoteFile, source: Source, arriving: Arriving) -> bool:
    """Fetch what is missing, as long as the connection lasts; False if the hub has no more than what is here."""
    headers = {"Range": f"bytes={arriving.size}-"} if arriving.size else {}
    with client.stream("GET", file.url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
        check_status(answer, source)
        if answer.headers.get("Content-Range", "").partition("-")[0] != f"bytes {arriving.size}":
            arriving.restart()  # the whole file comes, whatever was asked for
        for block in answer.iter_bytes():
            arriving.append(block)
            if arriving.size > file.size:
                return False
    if arriving.size < file.size:
        raise httpx.RemoteProtocolError(f"only {arriving.size} of {file.size} bytes of {file.path} came")
    return True
