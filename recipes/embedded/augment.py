"""Makes clean recordings sound like the world: speed, level, rooms, noise, telephone lines."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
import torch
from recipes.embedded.corpus import SAMPLE_RATE, read_shard
from recipes.embedded.model import FEATURE_MEAN
from recipes.vad.noises import split
from scipy.signal import fftconvolve

Wave = npt.NDArray[np.float32]
"""Mono samples in -1..1 at 16 kHz, shape [samples]."""

SPARE = SAMPLE_RATE // 20
"""Samples before the first loud one that stay: words start softly."""
FAINT = 1e-4
"""Level of the noise before and behind a clip, at least (-80 dB)."""


@dataclass(frozen=True, slots=True)
class Chances:
    """How often a clip gets each treatment (0 to 1). Gentle: a model of this size learns little from wrecked speech."""

    speed: float = 0.5
    room: float = 0.04
    noise: float = 0.1
    narrow: float = 0.03
    level: float = 0.5
    lead: float = 0.6


class Augmenter:
    """Draws a treatment for each clip; owns its half of the noises, and its random state."""

    def __init__(self, work: Path, seed: int, chances: Chances = Chances()) -> None:  # frozen
        self._chances = chances
        self._rng = np.random.default_rng(seed)
        half = split(read_shard(work, "noise"))[0]
        self._rooms = half.rooms
        self._noises = [noise for kind in half.kinds.values() for noise in kind]

    def __call__(self, wave: Wave) -> tuple[Wave, float]:
        """Return the treated wave and the factor by which its times shrank."""
        rng, chances = self._rng, self._chances
        rate = 1.0
        if rng.random() < chances.speed:
            rate = float(rng.uniform(0.9, 1.1))
            wave = soxr.resample(wave, SAMPLE_RATE * rate, SAMPLE_RATE, "MQ")
        if rng.random() < chances.lead:
            wave = self._with_another_lead(wave)
        if rng.random() < chances.room:
            wave = self._in_room(wave)
        if rng.random() < chances.noise:
            wave = self._with_noise(wave)
        if rng.random() < chances.narrow:
            wave = self._over_telephone(wave)
        if rng.random() < chances.level:
            wave = self._at_level(wave)
        return np.clip(wave, -1.0, 1.0).astype(np.float32), rate

    def _with_another_lead(self, wave: Wave) -> Wave:
        """Start up to a second earlier or at the first word: a model learns the usual lead, and is lost without it."""
        rng = self._rng
        loud = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max(initial=0.0))
        quiet = max(0, int(loud[0]) - SPARE) if len(loud) else 0
        wave = wave[int(rng.uniform(0, quiet)) :]
        before, after = (rng.standard_normal(int(rng.uniform(0, most) * SAMPLE_RATE)) for most in (1.0, 0.4))
        floor = max(FAINT, _rms(wave[: SPARE // 2]) if quiet else 0.0)
        return np.concatenate([floor * before, wave, floor * after]).astype(np.float32)

    def _in_room(self, wave: Wave) -> Wave:
        """Reverberated by a recorded or an invented room; the direct sound stays in place."""
        rng = self._rng
        if self._rooms and rng.random() < 0.3:
            room = self._rooms[rng.integers(len(self._rooms))]
        else:
            decay = rng.uniform(0.1, 0.6)
            times = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
            room = (rng.normal(0.0, 1.0, len(times)) * np.exp(-6.9 * times / decay)).astype(np.float32)
            room *= np.float32(rng.uniform(0.3, 1.0) / np.sqrt((room**2).sum()))
            room[0] = 1.0
        wet = fftconvolve(wave, room)[: len(wave)]
        return (wet * _rms(wave) / max(_rms(wet), 1e-6)).astype(np.float32)

    def _with_noise(self, wave: Wave) -> Wave:
        """Add a noise at 0 to 25 dB below the speech."""
        rng = self._rng
        noise = self._noises[rng.integers(len(self._noises))]
        start = rng.integers(len(noise))
        noise = np.resize(np.roll(noise, -start), len(wave))
        decibels = rng.uniform(0.0, 25.0)
        gain = _rms(wave) / max(_rms(noise), 1e-6) * 10 ** (-decibels / 20)
        return wave + noise * np.float32(gain)

    def _over_telephone(self, wave: Wave) -> Wave:
        """Limited to 4 kHz; half of the time with 8-bit mu-law steps."""
        narrow = soxr.resample(wave, SAMPLE_RATE, 8000, "MQ")
        if self._rng.random() < 0.5:
            narrow = np.clip(narrow, -1.0, 1.0)
            folded = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
            folded = np.round(folded * 127) / 127
            narrow = np.sign(folded) * np.expm1(np.abs(folded) * np.log(256)) / 255
        wide = soxr.resample(narrow, 8000, SAMPLE_RATE, "MQ").astype(np.float32)
        return np.resize(np.pad(wide, (0, max(0, len(wave) - len(wide)))), len(wave))

    def _at_level(self, wave: Wave) -> Wave:
        """At -38 to -14 dB (root mean square)."""
        decibels = self._rng.uniform(-38.0, -14.0)
        return wave * np.float32(10 ** (decibels / 20) / max(_rms(wave), 1e-5))


def mask_features(features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mild SpecAugment on half of [batch, 80, frames]: one band, up to two gaps, filled with the mean."""
    features = features.clone()
    for row, length in zip(features, lengths.tolist(), strict=True):
        if random.random() < 0.5:
            continue
        width, low = random.randint(0, 14), random.randint(0, 65)
        row[low : low + width] = FEATURE_MEAN
        for _ in range(random.randint(0, 2)):
            span = random.randint(0, min(25, length // 12))
            start = random.randint(0, max(0, length - span))
            row[:, start : start + span] = FEATURE_MEAN
    return features


def _rms(wave: Wave) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
