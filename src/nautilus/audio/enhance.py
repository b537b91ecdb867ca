"""Cleaning before the model hears it, in levels; `auto` leaves good recordings exactly alone.

| level  | what it does                                                        |
|--------|---------------------------------------------------------------------|
| none   | nothing                                                             |
| low    | removes DC, brings speech that is too soft or too loud into range   |
| medium | band-pass, spectral subtraction, the speech at one level            |
| high   | band-pass, log-MMSE, one level; the planner also removes silence    |

All of it is judged by word error rates (docs/preprocessing.md), which say where each level helps and where it harms.
Same length out as in, nothing moves in time, silence stays silence. SciPy is imported late: it takes longer to import
than most recordings to hear.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nautilus.audio.denoise import subtract_noise, suppress_noise
from nautilus.audio.quality import NOISY_DB, Quality, measure, speech_level
from nautilus.types import SAMPLE_RATE, Level, Waveform

RANGE_DB: Final = (-38.0, -16.0)
"""Levels of speech that `low` leaves alone, dB full scale: raising speech further raises its pauses, too, which costs
more words than soft speech does."""
TARGET_DB: Final = -23.0
"""Level of the speech after noise was taken away, dB full scale."""
CEILING: Final = 0.98
"""Largest sample after normalisation."""
MAX_GAIN_DB: Final = 30.0
"""More would bring up nothing but noise."""
BAND_HZ: Final = (60.0, 7600.0)
"""Below lies hum and rumble, above the edge of what a 16-kHz model knows."""

QUIET_DB: Final = -47.0
"""`auto` raises speech softer than this."""
LOUD_DB: Final = -14.0
"""`auto` lowers speech louder than this, which is mostly clipped."""
OFFSET: Final = 0.01
"""`auto` removes a DC offset larger than this."""
STEADY_DB: Final = 6.0
"""`auto` takes noise away where the recording is noisy and its bands swing less than this: there the noise is steady,
and can be told from speech."""

_ORDER: Final = 2
_MARGIN: Final = SAMPLE_RATE // 10
"""Samples that the ends are continued by; the filter has forgotten everything after a tenth of a second."""
_NO_OFFSET: Final = 1e-4
_SILENCE_DB: Final = -85.0


@dataclass(frozen=True, slots=True)
class Enhanced:
    """A cleaned waveform."""

    waveform: Waveform
    level_applied: Level
    """What was done: never `auto`."""
    quality: Quality | None
    """Of the waveform as it came; None where nothing was measured (level `none`)."""


def enhance(waveform: Waveform, level: Level) -> Enhanced:
    """Clean a waveform; where nothing has to be done, the very same array comes back."""
    if level == "none":
        return Enhanced(waveform, "none", None)
    quality = measure(waveform)
    applied = choose(quality) if level == "auto" else level
    if applied == "none" or quality.rms_db <= _SILENCE_DB:
        return Enhanced(waveform, "none" if level == "auto" else applied, quality)
    lowest, highest = RANGE_DB if applied == "low" else (TARGET_DB, TARGET_DB)
    return Enhanced(_normalise(_clean(waveform, quality, applied), lowest, highest), applied, quality)


def choose(quality: Quality) -> Level:
    """Choose the level that `auto` takes: as little as the recording allows."""
    if quality.rms_db <= _SILENCE_DB:
        return "none"
    if quality.snr_db < NOISY_DB and quality.swing_db < STEADY_DB:
        return "high"
    in_range = QUIET_DB <= quality.rms_db <= LOUD_DB
    return "none" if in_range and abs(quality.dc_offset) <= OFFSET else "low"


def _clean(waveform: Waveform, quality: Quality, level: Level) -> Waveform:
    """Take away what is not speech."""
    if level == "low":
        return waveform - np.float32(quality.dc_offset) if abs(quality.dc_offset) > _NO_OFFSET else waveform
    filtered = _band_pass(waveform)
    return subtract_noise(filtered) if level == "medium" else suppress_noise(filtered)


def _band_pass(waveform: Waveform) -> Waveform:
    """Apply a zero-phase Butterworth band-pass (second order, as run forward and backward), as gains of frequencies.

    The ends are continued by their point reflection, so that nothing begins with a jump.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    margin = min(_MARGIN, len(waveform) - 1)
    before = 2 * waveform[0] - waveform[margin:0:-1]
    behind = 2 * waveform[-1] - waveform[-2 : -margin - 2 : -1]
    continued = np.concatenate((before, waveform, behind))
    size = next_fast_len(len(continued), real=True)
    filtered = np.asarray(irfft(rfft(continued, size) * _gains(size), size), np.float32)
    return filtered[margin : margin + len(waveform)]


def _gains(size: int) -> NDArray[np.float32]:
    """Return the squared gain of the digital Butterworth filter (bilinear transform) at the frequencies of a FFT."""
    low, high = np.tan(np.pi * np.array(BAND_HZ) / SAMPLE_RATE)
    frequency = np.tan(np.pi * np.arange(size // 2 + 1) / size)
    with np.errstate(divide="ignore"):  # at 0 Hz
        apart = (frequency**2 - low * high) / (frequency * (high - low))
    return np.asarray(1 / (1 + apart ** (2 * _ORDER)), np.float32)


def _normalise(waveform: Waveform, lowest: float, highest: float) -> Waveform:
    """Bring the speech between two levels without passing `CEILING`; near silence is not raised."""
    level = speech_level(waveform)
    peak = max(float(waveform.max()), -float(waveform.min()))
    if level <= _SILENCE_DB or lowest <= level <= highest:
        return waveform
    wanted = lowest if level < lowest else highest
    gain = min(10 ** (min(wanted - level, MAX_GAIN_DB) / 20), CEILING / peak)
    return waveform * np.float32(gain)
