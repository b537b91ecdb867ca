"""Where an installed model came from: a small file in its folder, written when it is fetched or installed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from nautilus.errors import ModelLoadError
from nautilus.hubs.source import Source

RECORD: Final = "nautilus-origin.json"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """What a file must be."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Record:
    """A model's files, and the repository they are from."""

    name: str
    source: Source | None
    """None for a model that was put there by hand."""
    commit: str | None
    """What the revision meant when it was fetched; None on hubs without commits."""
    files: dict[str, KeptFile]
    """By path in the model's folder."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


_FORMAT: Final = TypeAdapter(Record)


def read_record(folder: Path) -> Record | None:
    """Read where the model in `folder` came from; None if nobody wrote it down. Raises ModelLoadError."""
    try:
        return _FORMAT.validate_json((folder / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise ModelLoadError(f"{folder / RECORD} cannot be read; remove the model and fetch it again.") from error


def write_record(record: Record, folder: Path) -> None:
    """Write down where the model in `folder` came from."""
    (folder / RECORD).write_bytes(_FORMAT.dump_json(record, indent=2) + b"\n")


def record_by_hand(name: str, folder: Path) -> Record:
    """Return the record of a model that nobody fetched, from its files as they are."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return Record(name, None, None, {path.relative_to(folder).as_posix(): _kept(path) for path in paths})


def _kept(path: Path) -> KeptFile:
    with path.open("rb") as file:
        return KeptFile(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
