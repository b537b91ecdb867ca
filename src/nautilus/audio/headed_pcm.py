"""Samples as live clients send them that play a file: a WAV header may come first, and then says what they are.

Source: Microsoft and IBM, Multimedia Programming Interface and Data Specifications 1.0 (1991), RIFF WAVE.
"""

import struct
from typing import Final

import numpy as np

from nautilus.audio.pcm import RATES, PcmStream
from nautilus.errors import BadAudioError
from nautilus.types import Waveform

RIFF: Final = struct.Struct("<4sI4s")
CHUNK: Final = struct.Struct("<4sI")
FORMAT: Final = struct.Struct("<HHIIHH")
KINDS: Final = (1, 0xFFFE)
"""Plain samples, and those whose kind follows in an extension."""
MOST_CHANNELS: Final = 8
LONGEST_HEADER: Final = 64 * 1024
"""Bytes."""


class HeadedPcm:
    """Reads one stream's bytes as a `PcmStream` does, a header included; all channels are mixed."""

    def __init__(self, rate: int) -> None:
        self._pcm: PcmStream | None = None
        self._rate = rate
        """Hertz, where no header says it."""
        self._channels = 1
        self._held = b""

    def read(self, data: bytes) -> Waveform:
        """Return the samples that the next bytes complete, at `SAMPLE_RATE`. Raises BadAudioError for other kinds."""
        data = self._held + data
        if self._pcm is None:
            begun = self._begin(data)
            if begun is None:
                self._held = data
                return np.zeros(0, np.float32)
            data = data[begun:]
        whole = len(data) // (2 * self._channels) * 2 * self._channels
        self._held = data[whole:]
        assert self._pcm is not None  # noqa: S101 - begun
        return self._pcm.read(self._mixed(data[:whole]))

    def finish(self) -> Waveform:
        """Return what the resampler still held; what comes then begins anew, in the same format."""
        return self._pcm.finish() if self._pcm else np.zeros(0, np.float32)

    def _begin(self, data: bytes) -> int | None:
        """Return where the samples begin; None where that is not known yet."""
        if len(data) < RIFF.size and b"RIFF".startswith(data[:4]):
            return None
        if data[:4] != b"RIFF":
            self._pcm = PcmStream("pcm16", self._rate)
            return 0
        place = RIFF.size
        while place + CHUNK.size <= len(data):
            name, size = CHUNK.unpack_from(data, place)
            place += CHUNK.size
            if name == b"data":
                if self._pcm is None:
                    raise BadAudioError("This WAV file says nothing of its samples before they come.")
                return place
            if name == b"fmt " and place + FORMAT.size <= len(data):
                self._take_format(*FORMAT.unpack_from(data, place))
            place += size + size % 2
        if place > LONGEST_HEADER:
            raise BadAudioError("This WAV file has no samples in its first 64 KiB.")
        self._pcm = None  # its header is read again when more of it has come
        return None

    def _take_format(self, kind: int, channels: int, rate: int, _: int, __: int, bits: int) -> None:
        known = kind in KINDS and bits == 16 and rate in RATES and 1 <= channels <= MOST_CHANNELS  # noqa: PLR2004
        if not known:
            raise BadAudioError(
                f"Live streams take WAV files of 16-bit samples at {RATES[0]} to {RATES[-1]} Hz, in at most "
                f"{MOST_CHANNELS} channels; send other files to /v1/audio/transcriptions."
            )
        self._pcm, self._channels = PcmStream("pcm16", rate), channels

    def _mixed(self, data: bytes) -> bytes:
        if self._channels == 1:
            return data
        samples = np.frombuffer(data, "<i2").reshape(-1, self._channels)
        return bytes(samples.mean(axis=1).round().astype("<i2").tobytes())
