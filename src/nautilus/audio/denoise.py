"""Noise out of speech: spectral subtraction (fast) and log-MMSE with noise tracking (strong).

Both work on frames of 32 ms, 16 ms apart, under a square-root Hann window, once before and once after
(so a gain of 1 gives the samples back), and neither moves the samples in time. Noise goes down,
never out: gains have a floor, since recognisers mind holes more than hiss.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nautilus.types import Waveform

Spectra: TypeAlias = NDArray[np.complex64]
"""Shape (frames, 257)."""
Powers: TypeAlias = NDArray[np.float32]
"""Of spectra, or gains for them: shape (frames, 257), or (257,) for noise."""

_FFT: Final = 512
_HOP: Final = 256
_SECTION: Final = 512
"""Frames that are worked on at once (8 s)."""
_TINY: Final = np.float32(1e-10)
"""Power below any 16-bit noise; keeps silence silent."""

_OVERSUBTRACT: Final = 2.0
_SUBTRACT_FLOOR: Final = 0.3
_QUANTILE: Final = 0.15
_QUANTILE_BIAS: Final = 2.4
"""Mean of a steady noise's smoothed powers over their 15 % quantile."""

_SMOOTH: Final = 0.95
"""Weight of the past in the a-priori SNR (Ephraim & Malah 1984): less than their 0.98, as the frames are 16 ms apart
and a recogniser minds smeared onsets more than musical tones."""
_MIN_PRIOR: Final = 10 ** (-15 / 10)
_MMSE_FLOOR: Final = 0.1
_SPEECH_PRIOR: Final = 10 ** (15 / 10)
"""SNR that speech is assumed to have where it is present (Gerkmann & Hendriks 2012)."""
_NOISE_MEMORY: Final = 0.8
_PRESENCE_MEMORY: Final = 0.9
_TABLE_START: Final = np.float32(1e-3)
_TABLE_STEPS: Final = np.float32(96)
"""Entries per factor e."""
_TABLE_ORIGIN: Final = np.float32(np.log(_TABLE_START) * _TABLE_STEPS)
_MAX_PRESENCE: Final = 0.99
"""Where speech seems to be present all the time, some of it is taken for noise, so that the noise can rise."""


def subtract_noise(waveform: Waveform) -> Waveform:
    """Subtract noise spectra (Boll 1979) with over-subtraction and floor (Berouti et al. 1979), gently."""
    return _filter(waveform, _subtraction_gains)


def suppress_noise(waveform: Waveform) -> Waveform:
    """Estimate log-spectra (log-MMSE, Ephraim & Malah 1985), tracking noise as Gerkmann & Hendriks (2012) do."""
    return _filter(waveform, _Suppressor().gains)


def _filter(waveform: Waveform, gains: Callable[[Powers], Powers]) -> Waveform:
    """Multiply the short-time spectrum with gains computed from its powers, section by section in order."""
    count = -(-len(waveform) // _HOP) + 1
    padded = np.zeros((count + 1) * _HOP, np.float32)
    padded[_HOP : _HOP + len(waveform)] = waveform
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP]
    window = np.sqrt(np.hanning(_FFT + 1)[:-1]).astype(np.float32)
    result = np.zeros((count + 1, _HOP), np.float32)
    sections = -(-count // _SECTION)
    for section in range(sections):
        first, last = count * section // sections, count * (section + 1) // sections
        spectra = np.asarray(np.fft.rfft(frames[first:last] * window, axis=1), np.complex64)
        spectra *= gains(spectra.real**2 + spectra.imag**2)
        pieces = np.asarray(np.fft.irfft(spectra, axis=1), np.float32)
        pieces *= window
        result[first:last] += pieces[:, :_HOP]
        result[first + 1 : last + 1] += pieces[:, _HOP:]
    return result.reshape(-1)[_HOP : _HOP + len(waveform)]


def _subtraction_gains(powers: Powers) -> Powers:
    smooth = _smooth(powers)
    noise = _quiet(smooth) * np.float32(_OVERSUBTRACT)
    np.maximum(smooth, _TINY, out=smooth)
    gains = np.subtract(np.float32(1), noise / smooth, out=smooth)
    np.maximum(gains, np.float32(_SUBTRACT_FLOOR**2), out=gains)
    return np.asarray(np.sqrt(gains), np.float32)


def _smooth(powers: Powers) -> Powers:
    """Average each frame with its neighbours."""
    smooth = powers.copy()
    smooth[1:] += powers[:-1]
    smooth[:-1] += powers[1:]
    smooth[[0, -1]] *= np.float32(1.5 if len(powers) > 1 else 3)
    smooth *= np.float32(1 / 3)
    return smooth


def _quiet(smooth: Powers) -> Powers:
    """Estimate the noise's mean power in each bin from its quietest frames (minimum statistics, Martin 2001)."""
    sampled = smooth[::2]
    sampled = sampled[sampled.max(axis=1) > _TINY]
    if not len(sampled):
        return np.zeros(smooth.shape[1], np.float32)
    place = int(_QUANTILE * (len(sampled) - 1))
    return np.asarray(np.partition(sampled, place, axis=0)[place] * np.float32(_QUANTILE_BIAS), np.float32)


class _Suppressor:
    """Gains of log-MMSE, frame by frame; knows the noise and the last clean estimate."""

    def __init__(self) -> None:
        self._noise = np.zeros(0, np.float32)
        self._clean = np.zeros(_FFT // 2 + 1, np.float32)
        self._presence = np.full(_FFT // 2 + 1, 0.5, np.float32)

    def gains(self, powers: Powers) -> Powers:
        """Compute the gains of the next frames."""
        if not len(self._noise):
            self._noise = np.maximum(_quiet(_smooth(powers)), _TINY)
        gains = np.empty_like(powers)
        for index, power in enumerate(powers):
            self._track(power)
            posterior = np.minimum(power / self._noise, np.float32(1000))
            prior = _SMOOTH * self._clean / self._noise + (1 - _SMOOTH) * np.maximum(posterior - 1, 0)
            np.maximum(prior, _MIN_PRIOR, out=prior)
            gain = _log_mmse(prior, posterior)
            self._clean = gain**2 * power
            gains[index] = gain
        return np.maximum(gains, np.float32(_MMSE_FLOOR), out=gains)

    def _track(self, power: Powers) -> None:
        """Let the noise follow where speech is unlikely."""
        noise = self._noise
        presence = 1 / (1 + (1 + _SPEECH_PRIOR) * np.exp(power * (-_SPEECH_PRIOR / (1 + _SPEECH_PRIOR)) / noise))
        self._presence = _PRESENCE_MEMORY * self._presence + (1 - _PRESENCE_MEMORY) * presence
        np.minimum(presence, _MAX_PRESENCE, out=presence, where=self._presence > _MAX_PRESENCE)
        noise += (1 - _NOISE_MEMORY) * (1 - presence) * (power - noise)
        np.maximum(noise, _TINY, out=noise)


def _log_mmse(prior: Powers, posterior: Powers) -> Powers:
    """Compute the gain xi / (1 + xi) · exp(E1(v) / 2) with v = xi · gamma / (1 + xi), E1 by table."""
    table, wiener = _table(), prior / (1 + prior)
    place = np.log(np.maximum(wiener * posterior, _TABLE_START)) * _TABLE_STEPS - _TABLE_ORIGIN
    return np.asarray(wiener * table[np.minimum(place, len(table) - 1).astype(np.intp)], np.float32)


@cache
def _table() -> Powers:
    """Tabulate exp(E1(v) / 2) over the logarithm of v."""
    from scipy.special import exp1

    places = (np.arange(1024) + 0.5) / _TABLE_STEPS
    return np.asarray(np.exp(exp1(_TABLE_START * np.exp(places)) / 2), np.float32)
