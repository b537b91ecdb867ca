"""Raw samples as live clients send them, in pieces of any size → waveforms at 16 kHz.

Source of the two compandings: ITU-T G.711.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

Encoding = Literal["pcm16", "mulaw", "alaw"]
"""16-bit little-endian, or one byte per sample after G.711."""

ENCODINGS: Final[tuple[Encoding, ...]] = ("pcm16", "mulaw", "alaw")
RATES: Final = range(8000, 48_001)
"""Hertz."""


class PcmStream:
    """Reads one stream's bytes: the end of a piece may lie within a sample."""

    def __init__(self, encoding: Encoding, rate: int) -> None:
        self._table = None if encoding == "pcm16" else _table(encoding)
        self._rate = rate
        self._resample = _resampler(rate)
        self._odd = b""

    def read(self, data: bytes) -> Waveform:
        """Return the samples that the next bytes complete, at `SAMPLE_RATE`."""
        if self._table is not None:
            return self._resample(self._table[np.frombuffer(data, np.uint8)], last=False)
        data = self._odd + data
        whole = len(data) // 2 * 2
        self._odd = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").astype(np.float32)
        samples *= np.float32(2.0**-15)
        return self._resample(samples, last=False)

    def finish(self) -> Waveform:
        """Return what the resampler still held; what comes then begins anew."""
        rest = self._resample(np.zeros(0, np.float32), last=True)
        self._resample = _resampler(self._rate)
        return rest


def _resampler(rate: int) -> Callable[..., Waveform]:
    if rate == SAMPLE_RATE:
        return lambda samples, last: samples  # noqa: ARG005 - as soxr has it
    import soxr

    resample: Callable[..., Waveform] = soxr.ResampleStream(rate, SAMPLE_RATE, 1, quality="HQ").resample_chunk
    return resample


@cache
def _table(encoding: Encoding) -> NDArray[np.float32]:
    """Return the sample that each byte stands for."""
    codes = np.arange(256)
    if encoding == "mulaw":
        inverted = codes ^ 0xFF
        exponent, mantissa = (inverted >> 4) & 7, inverted & 15
        magnitude = ((2 * mantissa + 33) << exponent) - 33
        signed = np.where(inverted & 0x80, -magnitude, magnitude) * 4
    else:
        toggled = codes ^ 0x55
        exponent, mantissa = (toggled >> 4) & 7, toggled & 15
        magnitude = np.where(exponent > 0, (2 * mantissa + 33) << np.maximum(exponent - 1, 0), 2 * mantissa + 1)
        signed = np.where(toggled & 0x80, magnitude, -magnitude) * 8
    return (signed / 32_768).astype(np.float32)
