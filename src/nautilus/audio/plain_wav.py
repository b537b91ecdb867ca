"""Short 16-bit, 16-kHz WAV files, which need no decoder: what many clients record, and half the price of a request.

Only files that are beyond doubt are read here, by nothing that bad bytes could harm. Anything else (other rates and
formats, sizes that don't fit together, longer recordings) is for FFmpeg in its own process.
"""

import io
import struct
from typing import BinaryIO, Final

import numpy as np

from nautilus.audio.decode import MediaFacts
from nautilus.types import SAMPLE_RATE, Waveform

PCM: Final = 1
BYTES: Final = 2
"""Of one sample."""
HEADER: Final = struct.Struct("<4sI4s")
CHUNK: Final = struct.Struct("<4sI")
FORMAT: Final = struct.Struct("<HHIIHH")
MOST_CHUNKS: Final = 16
MOST_SECONDS: Final = 30
"""Longer recordings are read block by block, which is the sandbox's business."""


class PlainRecording:
    """A recording that was there at once; reads like one of the sandbox."""

    at_end = True
    warnings: tuple[str, ...] = ()
    decode_seconds = 0.0

    def __init__(self, facts: MediaFacts, waveform: Waveform) -> None:
        self.facts = facts
        self._waveform: Waveform | None = waveform

    async def read(self) -> Waveform | None:
        """Give everything, then None."""
        waveform, self._waveform = self._waveform, None
        return waveform


def read_plain_wav(file: BinaryIO) -> PlainRecording | None:
    """Read a file, channels mixed; None for one that the decoder should look at.

    Wherever the file stands, it is read from its start.
    """
    size = file.seek(0, io.SEEK_END)
    if size > MOST_SECONDS * SAMPLE_RATE * 2 * BYTES:
        return None
    file.seek(0)
    chunks = _chunks(memoryview(file.read()))
    form = FORMAT.unpack_from(chunks[b"fmt "]) if len(chunks.get(b"fmt ", b"")) == FORMAT.size else None
    samples = chunks.get(b"data", b"")
    if form is None or not samples:
        return None
    codec, channels, rate, _, frame, bits = form
    if (codec, rate, frame, bits) != (PCM, SAMPLE_RATE, channels * BYTES, 8 * BYTES) or channels not in (1, 2):
        return None
    if len(samples) % frame or len(samples) > MOST_SECONDS * SAMPLE_RATE * frame:
        return None
    planes = np.frombuffer(samples, "<i2").reshape(-1, channels)
    waveform = planes[:, 0].astype(np.float32)
    if channels == 2:  # noqa: PLR2004 - stereo
        waveform += planes[:, 1]
    waveform *= np.float32(2.0**-15 / channels)
    return PlainRecording(MediaFacts("wav", "pcm_s16le", rate, channels, len(planes) / rate), waveform)


def _chunks(data: memoryview) -> dict[bytes, memoryview]:
    """Return the chunks of a RIFF file, not copied; nothing if its sizes don't fit together, or if one comes twice."""
    if len(data) < HEADER.size:
        return {}
    riff, said, wave = HEADER.unpack_from(data)
    if riff != b"RIFF" or wave != b"WAVE" or said + CHUNK.size != len(data):
        return {}
    found: dict[bytes, memoryview] = {}
    place = HEADER.size
    while place < len(data):
        if place + CHUNK.size > len(data) or len(found) >= MOST_CHUNKS:
            return {}
        name, size = CHUNK.unpack_from(data, place)
        place += CHUNK.size
        if place + size > len(data) or name in found:
            return {}
        found[name] = data[place : place + size]
        place += size + size % 2
    return found
