"""Log-mel features as NeMo computes them, one implementation for whole files and for streams.

Source: `FilterbankFeatures` in nemo/collections/asr/parts/preprocessing/features.py (NeMo 3.0), which follows
librosa's Slaney mel scale. Differential-tested against it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

Features = NDArray[np.float32]
"""Shape (mels, frames)."""

RUN = 64
"""Frames that are computed at once: their scratch memory stays in the cache, which halves the time."""


@dataclass(frozen=True)
class LogMel:
    """Log-mel energies of 10-ms frames; configured by a model bundle's manifest."""

    n_mels: int = 80
    n_fft: int = 512
    window: int = 400
    """Samples under the Hann window of one frame."""
    hop: int = 160
    """Samples from one frame to the next."""
    preemphasis: float = 0.97
    log_guard: float = 2.0**-24
    """Added to the energies before the logarithm."""
    normalize: Literal["none", "per_feature"] = "none"
    """`per_feature` gives every mel band zero mean and unit deviation over the recording; streams can't have it."""

    def __call__(self, waveform: Waveform) -> Features:
        """Return the features of a whole waveform: `len(waveform) // hop` frames."""
        return self._normalized(self.frames(self._padded(waveform), len(waveform) // self.hop))

    def frames(self, padded: Waveform, count: int) -> Features:
        """Return `count` frames of pre-emphasised samples; frame t lies under samples [t * hop, t * hop + window)."""
        energies = np.empty((count, self.n_mels), np.float32)
        for first in range(0, count, RUN):
            last = min(first + RUN, count)
            run = padded[first * self.hop : (last - 1) * self.hop + self.window]
            framed = np.lib.stride_tricks.sliding_window_view(run, self.window)[:: self.hop]
            spectrum = np.fft.rfft(framed * self._hann, self.n_fft)
            power = spectrum.real**2 + spectrum.imag**2
            np.matmul(power, self._filters, out=energies[first:last])
        energies += np.float32(self.log_guard)
        return np.ascontiguousarray(np.log(energies, out=energies).T)

    def _padded(self, waveform: Waveform) -> Waveform:
        """Pre-emphasise, and pad with half a window of zeros on both sides so that frame t is centred on t * hop."""
        half = self.window // 2
        padded = np.zeros(len(waveform) + self.window, np.float32)
        inner = padded[half : half + len(waveform)]
        inner[:] = waveform
        inner[1:] -= np.float32(self.preemphasis) * waveform[:-1]
        return padded

    def _normalized(self, features: Features) -> Features:
        if self.normalize == "none":
            return features
        mean = features.mean(axis=1, keepdims=True)
        deviation = features.std(axis=1, ddof=1, keepdims=True) if features.shape[1] > 1 else np.zeros_like(mean)
        normalized: Features = (features - mean) / (deviation + np.float32(1e-5))
        return normalized

    @cached_property
    def _hann(self) -> Waveform:
        return np.hanning(self.window).astype(np.float32)

    @cached_property
    def _filters(self) -> NDArray[np.float32]:
        return mel_filters(self.n_mels, self.n_fft)


def mel_filters(n_mels: int, n_fft: int) -> NDArray[np.float32]:
    """Return triangular filters of equal area, shape (n_fft // 2 + 1, n_mels), on Slaney's mel scale.

    Source: Slaney, Auditory Toolbox (1998), as in librosa.filters.mel(norm="slaney", htk=False).
    """
    edges = _mel_to_hertz(np.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


# Slaney's scale is linear up to 1 kHz (15 mel) and logarithmic above it.
_LINEAR_STEP = 200.0 / 3
_LOG_FROM_HERTZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HERTZ / _LINEAR_STEP
_LOG_STEP = np.log(6.4) / 27.0


def _hertz_to_mel(hertz: float) -> float:
    if hertz < _LOG_FROM_HERTZ:
        return hertz / _LINEAR_STEP
    return float(_LOG_FROM_MEL + np.log(hertz / _LOG_FROM_HERTZ) / _LOG_STEP)


def _mel_to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _LOG_FROM_HERTZ * np.exp(_LOG_STEP * (mel - _LOG_FROM_MEL))
    return np.where(mel < _LOG_FROM_MEL, mel * _LINEAR_STEP, logarithmic)
