"""Room on the disk, asked for before it is used."""

import shutil
from pathlib import Path

from nautilus.errors import ModelLoadError


def need_space(name: str, size: int, folder: Path) -> None:
    """Make `folder`. Raises ModelLoadError if it cannot be made or its disk has less than `size` bytes free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ModelLoadError(
            f"{folder} cannot be used ({error}). Set NAUTILUS_MODELS_DIR to another folder."
        ) from error
    if size > free:
        raise ModelLoadError(
            f"{name} needs {in_units(size)}, and {folder} has {in_units(free)} free. "
            "Make room, or set NAUTILUS_MODELS_DIR to a folder on a larger disk."
        )


def in_units(size: int) -> str:
    """Return a number of bytes for people."""
    for unit, length in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= length:
            return f"{size / length:.{0 if size >= 100 * length else 1}f} {unit}"
    return f"{size / 1000:.0f} kB" if size >= 1000 else f"{size} bytes"  # noqa: PLR2004 - a thousand
