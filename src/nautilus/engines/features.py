"""Log-mel features as NeMo computes them, one implementation for whole files and for streams.

Source: `FilterbankFeatures` in nemo/collections/asr/parts/preprocessing/features.py (NeMo 3.0), which follows
librosa's Slaney mel scale. Differential-tested against it.
"""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

Features = NDArray[np.float32]
"""Shape (mels, frames)."""

RUN = 1024
"""Frames that are computed at once, so that an hour does not need an hour's scratch memory."""


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
        """Return `count` frames of pre-emphasised samples; frame t lies under samples [t * hop, t * hop + window).

        Few, large array operations on memory that each thread keeps: several threads do this while others wait for
        the interpreter.
        """
        features = np.empty((self.n_mels, count), np.float32)
        for first in range(0, count, RUN):
            last = min(first + RUN, count)
            run = padded[first * self.hop : (last - 1) * self.hop + self.window]
            features[:, first:last] = self._energies(np.lib.stride_tricks.sliding_window_view(run, self.window)).T
        return features

    def _energies(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the log-mel energies under every `hop`-th window, shape (frames, mels); valid until called again."""
        from scipy.fft import rfft  # late: it takes longer to import than a recording to hear

        framed = windows[:: self.hop]
        scratch = self._scratch(len(framed))
        np.multiply(framed, self._hann, out=scratch.windowed[:, : self.window])
        parts = rfft(scratch.windowed, axis=1).view(np.float32)  # real and imaginary, side by side
        np.multiply(parts, parts, out=parts)
        np.add(parts[:, 0::2], parts[:, 1::2], out=scratch.power)
        np.matmul(scratch.power, self._filters, out=scratch.energies)
        energies = scratch.energies
        energies += np.float32(self.log_guard)
        return np.log(energies, out=energies)

    def _scratch(self, count: int) -> "_Scratch":
        """Return this thread's memory for `count` frames."""
        kept: _Scratch | None = getattr(self._kept, "scratch", None)
        if kept is None or len(kept.windowed) < count:
            bins = self.n_fft // 2 + 1
            kept = self._kept.scratch = _Scratch(
                np.zeros((count, self.n_fft), np.float32),
                np.empty((count, bins), np.float32),
                np.empty((count, self.n_mels), np.float32),
            )
        return _Scratch(kept.windowed[:count], kept.power[:count], kept.energies[:count])

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
    def _kept(self) -> threading.local:
        return threading.local()

    @cached_property
    def _hann(self) -> Waveform:
        return np.hanning(self.window).astype(np.float32)

    @cached_property
    def _filters(self) -> NDArray[np.float32]:
        return mel_filters(self.n_mels, self.n_fft)


class FeatureStream:
    """The features of a waveform that comes in pieces: the same frames as if it had come at once."""

    def __init__(self, mel: LogMel) -> None:
        self._mel = mel
        self._kept = np.zeros(mel.window // 2, np.float32)  # pre-emphasised samples from the next frame's first on
        self._last = np.float32(0.0)  # sample before those to come, as it was
        self._samples = 0
        self._frames = 0

    def add(self, waveform: Waveform) -> Features:
        """Take the next samples, any number; return the frames that are complete now."""
        if not len(waveform):
            return np.empty((self._mel.n_mels, 0), np.float32)
        emphasised = waveform.astype(np.float32)
        emphasised[1:] -= np.float32(self._mel.preemphasis) * waveform[:-1]
        emphasised[0] -= np.float32(self._mel.preemphasis) * self._last
        self._last = waveform[-1]
        self._samples += len(waveform)
        self._kept = np.concatenate([self._kept, emphasised])
        return self._take(max(0, (len(self._kept) - self._mel.window) // self._mel.hop + 1))

    def finish(self) -> Features:
        """Return the frames that are left; the waveform is over."""
        self._kept = np.concatenate([self._kept, np.zeros(self._mel.window // 2, np.float32)])
        return self._take(self._samples // self._mel.hop - self._frames)

    def _take(self, count: int) -> Features:
        features = self._mel.frames(self._kept, count)
        self._kept = self._kept[count * self._mel.hop :]
        self._frames += count
        return features


@dataclass(frozen=True, slots=True)
class _Scratch:
    """Memory for some frames; `windowed` is zero beyond the window."""

    windowed: NDArray[np.float32]
    power: NDArray[np.float32]
    energies: NDArray[np.float32]


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
