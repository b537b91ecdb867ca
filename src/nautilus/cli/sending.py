"""What a new job is made of, gathered and sent: files are read when their turn comes, never all opened at once.

A little goes as one multipart form; much goes file by file to `/v1/uploads`, and a manifest names it.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nautilus.cli.asking import JOBS, JobServer
from nautilus.cli.transcribe import find
from nautilus.errors import BadRequestError

MUCH: Final = 256 * 1024**2
"""Bytes of all files from which on each is uploaded by itself."""
CHUNK: Final = 256 * 1024

Tell = Callable[[int], None]
"""Told how many more bytes went."""


@dataclass(slots=True)
class Parcel:
    """What is to be transcribed."""

    files: list[Path] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    """Lines of a manifest."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)


def gather(inputs: Sequence[str], manifests: Sequence[Path]) -> Parcel:
    """Find the files, addresses and rows that the arguments mean. Raises BadRequestError."""
    parcel = Parcel()
    for given in inputs:
        if given.startswith(("http://", "https://")):
            parcel.rows.append(json.dumps({"url": given}))
        elif given == "-":
            raise BadRequestError("A job takes no standard input; name a file.")
        else:
            parcel.files += filter(None, find([given]))
    for manifest in manifests:
        _read_manifest(manifest, parcel)
    if not parcel.files and not parcel.rows:
        raise BadRequestError("There is nothing to send; name files, folders, addresses or a --manifest.")
    return parcel


def send(server: JobServer, parcel: Parcel, fields: Sequence[tuple[str, str]], key: str | None, tell: Tell) -> Any:
    """Begin a job and return its document; `key` makes it the same job however often it is sent."""
    rows, files = list(parcel.rows), parcel.files
    if parcel.size > MUCH:
        rows += [_uploaded(server, file, tell) for file in files]
        files = []
    given = [*fields, *([("manifest", "\n".join(rows))] if rows else [])]
    boundary = secrets.token_hex(16)
    heads = [_head(boundary, file) for file in files]
    length = sum(map(len, _fields(boundary, given))) + sum(map(len, heads)) + sum(f.stat().st_size + 2 for f in files)
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(length + len(_end(boundary))),
        "Idempotency-Key": key or secrets.token_hex(16),
    }
    return json.loads(server.send("POST", JOBS, _body(boundary, given, files, tell), headers))


def _uploaded(server: JobServer, file: Path, tell: Tell) -> str:
    """Upload a file; return the row of a manifest that names it."""
    upload = server.post("/v1/uploads", {"name": file.name[:500]})
    headers = {"Content-Length": str(file.stat().st_size)}
    server.send(upload["method"], upload["url"], _read(file, tell), headers)
    return json.dumps({"upload": upload["id"], "name": file.name})


def _read_manifest(manifest: Path, parcel: Parcel) -> None:
    """Sort a manifest's lines: recordings that are here are sent, all others are left to the server."""
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"The manifest {manifest} can't be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not (here := _local(line)):
            parcel.rows += [line] if line.strip() else []
            continue
        file = manifest.parent / Path(here).expanduser()
        if not file.is_file():
            raise BadRequestError(f"Line {number} of {manifest} names {here}, and there is no such file.")
        parcel.files.append(file)


def _local(line: str) -> str | None:
    """Return the path that a line names, if it is no address and no upload."""
    try:
        said = json.loads(line)
        path = said.get("audio_filepath") or said.get("url")
    except (ValueError, AttributeError):
        return None  # the server says what is wrong with it
    return path if isinstance(path, str) and "://" not in path else None


def _body(boundary: str, fields: Sequence[tuple[str, str]], files: Sequence[Path], tell: Tell) -> Iterator[bytes]:
    yield from _fields(boundary, fields)
    for file in files:
        yield _head(boundary, file)
        yield from _read(file, tell)
        yield b"\r\n"
    yield _end(boundary)


def _fields(boundary: str, fields: Sequence[tuple[str, str]]) -> list[bytes]:
    return [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    ]


def _head(boundary: str, file: Path) -> bytes:
    name = file.name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    return os.fsencode(f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n")


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def _read(file: Path, tell: Tell) -> Iterator[bytes]:
    """Give a file's bytes. Raises BadRequestError where it can't be read, or has changed since it was measured."""
    try:
        with file.open("rb") as opened:
            left = opened.seek(0, os.SEEK_END)
            opened.seek(0)
            while chunk := opened.read(CHUNK):
                left -= len(chunk)
                tell(len(chunk))
                yield chunk
    except OSError as error:
        raise BadRequestError(f"{file} can't be read: {error.strerror}.") from None
    if left:
        raise BadRequestError(f"{file} changed while it was sent; send it again.")
