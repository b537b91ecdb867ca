"""`nautilus quantize`: recordings, as the model would hear them."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Final

from nautilus.audio.decode import Decoder
from nautilus.audio.enhance import enhance
from nautilus.cli.transcribe import find
from nautilus.errors import BadRequestError, NautilusError
from nautilus.types import Waveform

SECONDS: Final = 30.0
"""What is heard of each recording …"""
MOST: Final = 200
"""… of so many at most: they are in memory together, and more would change little."""


def beginnings(inputs: list[str]) -> Iterator[Waveform]:
    """Yield how recordings begin, cleaned as a server does. Raises BadRequestError for what is no recording."""
    paths = list(find(inputs))
    for path in paths[:: ceil(len(paths) / MOST)]:
        if path is None:
            raise BadRequestError("Name files or folders of recordings, not standard input.")
        try:
            waveform = _beginning(path)
        except NautilusError as error:
            raise BadRequestError(f"{path}: {error}") from error
        if waveform is not None:
            yield enhance(waveform, "auto").waveform


def _beginning(path: Path) -> Waveform | None:
    with path.open("rb") as file:
        decoder = Decoder(file)
        try:
            return decoder.read(SECONDS)
        finally:
            decoder.close()
