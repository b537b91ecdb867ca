"""A model from a hub into its folder: whole and checked, or not at all."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nautilus.errors import ModelLoadError
from nautilus.hubs import huggingface, ngc
from nautilus.hubs.client import Access, asking
from nautilus.hubs.download import download, part_of
from nautilus.hubs.offer import Offer
from nautilus.hubs.progress import Progress
from nautilus.hubs.record import KeptFile, Record, write_record
from nautilus.hubs.source import Source
from nautilus.hubs.space import need_space


def look_up(name: str, source: Source, access: Access) -> Offer:
    """Ask a hub what there is for a name. Blocking. Raises ModelLoadError."""
    if access.offline:
        raise ModelLoadError(
            f"{name} is not installed and NAUTILUS_OFFLINE (or HF_HUB_OFFLINE) forbids to fetch it. On a machine with "
            f"a network run `nautilus models bundle {name}`, and here `nautilus models install models.tar`."
        )
    with asking(source, access) as client:
        if source.hub == "ngc":
            return ngc.offer(client, name, source, access.ngc)
        return huggingface.offer(client, name, source, access.huggingface)


def fetch(offer: Offer, folder: Path, access: Access, progress: Progress) -> None:
    """Bring a model into `folder`, going on where an earlier attempt stopped. Blocking. Raises ModelLoadError."""
    partial = partial_of(folder)
    need_space(offer.name, offer.size - _here(offer, partial), folder.parent)
    try:
        with _alone(partial):
            if folder.is_dir():  # another process was faster
                _remove_empty(partial)
                return
            _bring(offer, partial, access, progress)
            partial.rename(folder)
    except OSError as error:
        raise ModelLoadError(
            f"{offer.name} could not be written to {folder.parent} ({error}). "
            "Make room, or set NAUTILUS_MODELS_DIR to another folder; what has arrived is kept."
        ) from error


def partial_of(folder: Path) -> Path:
    """Return where a model lies until it is whole."""
    return folder.with_name(f".{folder.name}.partial")


def _bring(offer: Offer, partial: Path, access: Access, progress: Progress) -> None:
    """Fetch all files, and write down what they are."""
    kept: dict[str, KeptFile] = {}
    with asking(offer.source, access) as client:
        for file in offer.files:
            tell = _after(sum(done.size for done in kept.values()), offer.size, progress)
            kept[file.path] = KeptFile(download(client, file, partial, offer.source, tell), file.size)
    _tidy(partial, set(kept))
    write_record(Record(offer.name, offer.source, offer.commit, kept), partial)


def _after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    return lambda size: progress(before + size, total)


def _tidy(partial: Path, wanted: set[str]) -> None:
    """Remove what an attempt at another revision left."""
    for path in [path for path in partial.rglob("*") if path.is_file()]:
        if path.relative_to(partial).as_posix() not in wanted:
            path.unlink()
    for folder in sorted((path for path in partial.rglob("*") if path.is_dir()), reverse=True):
        _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _here(offer: Offer, partial: Path) -> int:
    """Return how many bytes an earlier attempt left."""
    places = (path for file in offer.files for path in (partial / file.path, part_of(file, partial)))
    return sum(path.stat().st_size for path in places if path.is_file())


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Wait until no other process fetches the same model: the folder itself is the lock."""
    partial.mkdir(exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def forget(folder: Path) -> bool:
    """Delete a model and what a broken fetch left of it; False if there was neither."""
    found = [path for path in (folder, partial_of(folder)) if path.is_dir()]
    for path in found:
        shutil.rmtree(path)
    return bool(found)
