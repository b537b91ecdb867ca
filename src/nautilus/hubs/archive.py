"""Models in a tar file, for machines without a network.

    manifest.json                 names, sources, commits, and the SHA-256 of every file
    owner--model/model.onnx       the files, in the manifest's order

Nothing is trusted: what is unpacked are exactly the manifest's files, by the manifest's names and with its checksums.
"""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pydantic import TypeAdapter, ValidationError

from nautilus.errors import ModelLoadError
from nautilus.hubs.progress import Progress
from nautilus.hubs.record import RECORD, KeptFile, Record, read_record, write_record
from nautilus.hubs.source import check_path
from nautilus.hubs.space import need_space

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
LARGEST_MANIFEST: Final = 16 * 1024**2
"""Bytes."""
CHUNK: Final = 1 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a tar file holds."""

    format: int
    models: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that must come out of a tar file, and where it belongs."""

    target: Path
    file: KeptFile


_MANIFEST: Final = TypeAdapter(Manifest)


def pack(models: Sequence[tuple[Record, Path]], out: Path, progress: Progress) -> None:
    """Write models, each a record and its folder, into the tar file `out`. Blocking. Raises ModelLoadError."""
    total, done = sum(record.size for record, _ in models), 0
    partial = out.with_name(f".{out.name}.partial")
    need_space(str(out), total, out.parent)
    try:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as tar:
            manifest = _MANIFEST.dump_json(Manifest(FORMAT, tuple(record for record, _ in models)), indent=2)
            tar.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
            for record, folder in models:
                for path, kept in record.files.items():
                    _add(tar, folder, path, kept)
                    progress(done := done + kept.size, total)
        partial.rename(out)
    except OSError as error:
        raise ModelLoadError(f"{out} could not be written: {error}.") from error
    finally:
        partial.unlink(missing_ok=True)


def unpack(archive: Path, models_dir: Path, folder_of: Callable[[str], Path], progress: Progress) -> list[Record]:
    """Install the models of a tar file that are not here yet, and return them. Blocking.

    Everything is checked before anything is installed. Raises ModelLoadError, UnknownModelError.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            members = iter(tar)
            manifest = _read_manifest(tar, next(members, None), archive)
            new = [record for record in manifest.models if not _is_here(record, folder_of(record.name))]
            if not new:
                return []
            need_space(str(archive), sum(record.size for record in manifest.models), models_dir)
            with tempfile.TemporaryDirectory(prefix=".install-", dir=models_dir) as scratch:
                staging = Path(scratch)
                _check_all(tar, members, _expected(manifest, folder_of, staging), progress)
                for record in new:
                    folder = folder_of(record.name)
                    write_record(record, staging / folder.name)
                    (staging / folder.name).rename(folder)
                return new
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ModelLoadError(f"{archive} could not be installed: {error}. Nothing was changed.") from error


def _read_manifest(tar: tarfile.TarFile, first: tarfile.TarInfo | None, archive: Path) -> Manifest:
    if first is None or first.name != MANIFEST or not _is_plain(first) or first.size > LARGEST_MANIFEST:
        raise ModelLoadError(f"{archive} was not made by `nautilus models bundle`: it does not begin with {MANIFEST}.")
    try:
        manifest = _MANIFEST.validate_json(_content(tar, first).read())
    except ValidationError as error:
        raise ModelLoadError(
            f"{archive} has a manifest that this version cannot read. Bundle the models again."
        ) from error
    if manifest.format != FORMAT:
        raise ModelLoadError(f"{archive} has format {manifest.format}; this version reads {FORMAT}. Upgrade Nautilus.")
    return manifest


def _expected(manifest: Manifest, folder_of: Callable[[str], Path], staging: Path) -> dict[str, Expected]:
    """Return which files must come, by their names in the tar file. Raises ModelLoadError for one that leads away."""
    files: dict[str, Expected] = {}
    if len({folder_of(record.name) for record in manifest.models}) < len(manifest.models):
        raise ModelLoadError("The manifest names a model twice. Nothing was installed.")
    for record in manifest.models:
        folder = folder_of(record.name).name
        for path, kept in record.files.items():
            name = f"{folder}/{check_path(path)}"
            if name in files or path == RECORD:
                raise ModelLoadError(f"The manifest names {name} where it must not. Nothing was installed.")
            files[name] = Expected(staging / name, kept)
    return files


def _check_all(
    tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], expected: dict[str, Expected], progress: Progress
) -> None:
    """Unpack every member into its place. Raises ModelLoadError at the first that is not as the manifest says."""
    missing, total, done = dict(expected), sum(one.file.size for one in expected.values()), 0
    for member in members:
        one = missing.pop(member.name, None)
        if one is None or not _is_plain(member) or member.size != one.file.size:
            raise ModelLoadError(
                f"{member.name!r} in the tar file is not what its manifest says. Nothing was installed."
            )
        one.target.parent.mkdir(parents=True, exist_ok=True)
        with one.target.open("wb") as target:
            _copy(_content(tar, member), target, member.name, one.file)
        progress(done := done + one.file.size, total)
    if missing:
        raise ModelLoadError(
            f"The tar file lacks {', '.join(sorted(missing)[:3])}. Nothing was installed; copy it again."
        )


def _copy(source: IO[bytes], target: IO[bytes], name: str, kept: KeptFile) -> None:
    sha256 = hashlib.sha256()
    while block := source.read(CHUNK):
        sha256.update(block)
        target.write(block)
    if sha256.hexdigest() != kept.sha256:
        raise ModelLoadError(
            f"{name} in the tar file has a wrong checksum. Nothing was installed; copy the file again."
        )


def _is_here(record: Record, folder: Path) -> bool:
    if not folder.is_dir():
        return False
    here = read_record(folder)
    if here is None or here.files != record.files:
        raise ModelLoadError(
            f"Another {record.name} is installed. Remove it first: `nautilus models remove {record.name}`."
        )
    return True


def _add(tar: tarfile.TarFile, folder: Path, path: str, kept: KeptFile) -> None:
    with (folder / path).open("rb") as file:
        changed = hashlib.file_digest(file, "sha256").hexdigest() != kept.sha256
        if changed or file.tell() != kept.size:
            raise ModelLoadError(
                f"{folder / path} was changed after it was fetched. Remove the model and fetch it again."
            )
        file.seek(0)
        tar.addfile(_member(f"{folder.name}/{path}", kept.size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether it is a file, not a link, a device or a sparse one."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise ModelLoadError(f"{member.name} in the tar file is no file.")
    return content
