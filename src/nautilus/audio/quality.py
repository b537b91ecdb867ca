"""How good a recording is: level, noise and its kind, offset, bandwidth. Cheap estimates from sampled frames."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from math import inf, log10
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

FRAME: Final = 320
"""Samples per frame of the level statistics (20 ms)."""
MAX_SNR: Final = 80.0
"""dB; reported where nothing but silence lies between the words."""
NOISY_DB: Final = 20.0
"""dB; below this signal-to-noise ratio as it is estimated here (true ones of about 14 dB) the kind of noise matters."""
SILENCE_DB: Final = -120.0
"""dB full scale; reported for digital silence."""

_MAX_FRAMES: Final = 1500
_MAX_SPECTRA: Final = 24
_MAX_SWINGING: Final = 192
_FFT: Final = 512
_BAND_BINS: Final = slice(4, 244)
"""125 to 7,600 Hz."""
_BANDS: Final = 16
_LOW, _MIDDLE = 0.1, 0.5
_NOTHING: Final = 1e-12
"""Power of no sound, -120 dB."""
_HEARD: Final = 1e-9
"""Power of a spectrum with any sound."""
_AUDIBLE: Final = 1e-5
"""-50 dB: how far below the strongest band a band may lie and still count as recorded."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured of a waveform."""

    snr_db: float
    """Louder frames against the quietest tenth, dB; about 0 for steady noise."""
    rms_db: float
    """Level of what is loud enough to be speech, dB full scale."""
    dc_offset: float
    """Mean of the samples."""
    swing_db: float
    """How far the middling frames lie above the quiet ones in a typical band, dB; 2 for steady noise, 7 and more where
    the loudest thing comes and goes: speech, barking, other voices. Infinite above `NOISY_DB`, where nobody asks."""


def measure(waveform: Waveform) -> Quality:
    """Measure a waveform; of a long one, frames spread evenly over it."""
    if not len(waveform):
        return Quality(0.0, SILENCE_DB, 0.0, 0.0)
    frames = _spread(waveform, FRAME, _MAX_FRAMES)
    offset = _offset(frames)
    powers = _powers(frames, offset)
    snr = _snr(powers)
    return Quality(
        snr_db=snr,
        rms_db=_loudness(powers),
        dc_offset=offset,
        swing_db=_swing(_spectra(waveform, _MAX_SWINGING, offset)) if snr < NOISY_DB else inf,
    )


def bandwidth(waveform: Waveform) -> float:
    """Find the frequency above which (almost) nothing was recorded, hertz; 0 for silence."""
    if not len(waveform):
        return 0.0
    offset = _offset(_spread(waveform, FRAME, _MAX_FRAMES))
    return _bandwidth(_spectra(waveform, _MAX_SPECTRA, offset))


def speech_level(waveform: Waveform) -> float:
    """Measure the level of what is loud enough to be speech, dB full scale, for a waveform without DC."""
    return _loudness(_powers(_spread(waveform, FRAME, _MAX_FRAMES), 0.0)) if len(waveform) else SILENCE_DB


def _offset(frames: NDArray[np.float32]) -> float:
    """Compute the mean of full frames, in a third of the time of `frames.mean()`."""
    return float((frames @ _ones()).mean() / FRAME)


def _powers(frames: NDArray[np.float32], offset: float) -> list[float]:
    """Compute the mean square of each frame around `offset`, in ascending order."""
    squares = np.vecdot(frames, frames).astype(np.float64) / frames.shape[1]
    powers: list[float] = np.sort(np.maximum(squares - offset**2, 0)).tolist()  # a few hundred: lists are faster
    return powers


def _loudness(powers: list[float]) -> float:
    """Average the frames at most 20 dB below the loudest (but for 2 %), dB; a gate as in ITU-R BS.1770."""
    gate = powers[int(0.98 * (len(powers) - 1))] / 100
    loud = fmean(powers[bisect_left(powers, gate) :])
    return max(SILENCE_DB, 10 * log10(loud + 1e-30))


def _spread(waveform: Waveform, length: int, at_most: int) -> NDArray[np.float32]:
    """Take frames of `length` samples, evenly spread, shape (frames, length); a short waveform is one frame."""
    if len(waveform) < length:
        return np.pad(waveform, (0, length - len(waveform)))[None]
    rows = waveform[: len(waveform) // length * length].reshape(-1, length)
    return rows[:: -(-len(rows) // at_most)]


def _snr(powers: list[float]) -> float:
    """Compare percentiles of the frames' powers, ascending (a static form of minimum statistics, Martin 2001)."""
    noise = fmean(powers[: max(1, len(powers) // 10)])
    loud = fmean(powers[-max(1, len(powers) * 3 // 10) :])
    if loud <= _NOTHING:
        return 0.0
    return min(MAX_SNR, max(0.0, 10 * log10(max(loud - noise, _NOTHING) / max(noise, _NOTHING))))


def _spectra(waveform: Waveform, at_most: int, offset: float) -> NDArray[np.float32]:
    """Compute power spectra of frames spread evenly, shape (frames, 257)."""
    from scipy.fft import rfft  # six times as fast as NumPy's on float32; late, for it takes its time to import

    frames = _spread(waveform, _FFT, at_most) - np.float32(offset)
    frames *= _window()
    spectrum = rfft(frames, axis=1)
    power: NDArray[np.float32] = spectrum.real**2
    power += spectrum.imag**2
    return power


def _bandwidth(spectra: NDArray[np.float32]) -> float:
    """Find the highest frequency whose strongest frame comes within 50 dB of the strongest of all."""
    strongest = spectra.max(axis=0)
    most = float(strongest.max())
    if most <= _NOTHING:
        return 0.0
    silent_above = int((strongest[::-1] >= np.float32(_AUDIBLE * most)).argmax())
    return (len(strongest) - 1 - silent_above) * SAMPLE_RATE / _FFT


def _swing(spectra: NDArray[np.float32]) -> float:
    """Compare quantiles of each band's powers; frames of digital silence tell nothing about noise."""
    bands = spectra[:, _BAND_BINS].reshape(len(spectra), _BANDS, -1).sum(axis=2)
    bands = bands[bands.sum(axis=1) > _HEARD]
    if not len(bands):
        return 0.0
    low, middle = (int(share * (len(bands) - 1)) for share in (_LOW, _MIDDLE))
    ranked = np.partition(bands, (low, middle), axis=0)
    return float(np.median(10 * np.log10((ranked[middle] + _NOTHING) / (ranked[low] + _NOTHING))))


@cache
def _ones() -> NDArray[np.float32]:
    return np.ones(FRAME, np.float32)


@cache
def _window() -> NDArray[np.float32]:
    return np.hanning(_FFT).astype(np.float32)
