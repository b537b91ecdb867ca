"""What a hub has for a name: files with sizes and checksums, of which only the useful ones are fetched."""

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

from nautilus.errors import ModelLoadError
from nautilus.hubs.record import RECORD
from nautilus.hubs.source import Source, check_path

SKIP: Final = ("*int8*", "*.int8.*", "*fp16*", "*.md", ".gitattributes", "*.png", "*.nemo", RECORD)
"""Files beside ONNX graphs that no engine here reads, and the name of our own record."""
READABLE: Final = ("config.json", "nautilus.json")
"""One of these makes a folder of ONNX graphs a model."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a hub."""

    path: str
    url: str
    size: int
    """Bytes."""
    sha256: str | None = None
    git: str | None = None
    """Git's name for it: the checksum of small files on Hugging Face."""
    etag: str | None = None
    """Changes with the file, where there is no checksum."""

    @property
    def identity(self) -> str:
        """Letters that change with the content, as far as the hub tells."""
        known = self.sha256 or self.git or "".join(filter(str.isalnum, self.etag or ""))
        return known[:32] or str(self.size)


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be fetched for a model."""

    name: str
    source: Source
    commit: str | None
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def needs_nemo(self) -> bool:
        """Whether only NeMo can load it."""
        return all(file.path.endswith(".nemo") for file in self.files)


def useful(files: tuple[RemoteFile, ...], source: Source) -> tuple[RemoteFile, ...]:
    """Choose what to fetch: the ONNX graphs and what belongs to them, else the `.nemo` file. Raises ModelLoadError."""
    by_path = {check_path(file.path): file for file in files}
    graphs = any(path.endswith(".onnx") for path in by_path) and any(name in by_path for name in READABLE)
    if graphs:
        return tuple(file for path, file in by_path.items() if not any(fnmatch(path, pattern) for pattern in SKIP))
    nemo = [file for path, file in by_path.items() if path.endswith(".nemo")]
    if len(nemo) == 1:
        return tuple(nemo)
    if nemo:
        names = ", ".join(file.path for file in nemo)
        raise ModelLoadError(f"{source} holds several .nemo files ({names}). Fetch one by hand and name its path.")
    raise ModelLoadError(
        f"{source} holds neither ONNX graphs that can be served nor a .nemo file. Choose another model."
    )
