"""Noisy versions of clean streams: rooms, narrow bands, noise, levels, clipping."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.signal
from recipes.embedded.corpus import SAMPLE_RATE
from recipes.vad import noises
from recipes.vad.noises import Recordings, Samples

SPEECH_RMS = 10 ** (-26 / 20)
"""Level of the speech in the clean streams; SNRs are relative to it."""
POOL = 100
"""Synthetic noises made once and cut at random places."""
POOL_SAMPLES = 24 * SAMPLE_RATE
ALONE = 0.6
"""Part of the examples without speech that are one recording as it is, with silence after it where it is short."""
EASY = 0.1
"""How often a recording that the detector takes for noise is drawn, against one that it takes for speech."""


class Mixer:
    """Makes training examples; the same seed makes the same ones."""

    def __init__(self, recordings: Recordings, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._recordings = recordings
        makers = (noises.music, noises.tones, noises.tones, noises.coloured, noises.clicks)
        self._alone = [clip for kind, clips in recordings.kinds.items() if kind != noises.VOICES for clip in clips]
        self._odds = np.full(len(self._alone), 1 / len(self._alone))
        self._pool = [makers[index % len(makers)](self._rng, POOL_SAMPLES) for index in range(POOL)]

    def mix(self, clean: Samples) -> Samples:
        """Disturb a copy of clean speech, shape unchanged."""
        rng = self._rng
        speech = self._room(clean) if rng.random() < 0.4 else clean
        if rng.random() < 0.85:
            snr = rng.uniform(-3, 30)
            speech = speech + SPEECH_RMS * 10 ** (-snr / 20) * self.noise(len(clean))
        return self._finish(speech)

    def noise_only(self, count: int) -> Samples:
        """No speech: noise, tones, music, near silence or silence."""
        rng = self._rng
        if rng.random() < ALONE:
            return self._finish(SPEECH_RMS * self._one_alone(count))
        if rng.random() < 0.1:
            return np.zeros(count, np.float32)
        if rng.random() < 0.1:
            return (rng.standard_normal(count) * 10 ** (rng.uniform(-96, -60) / 20)).astype(np.float32)
        return self._finish(SPEECH_RMS * self.noise(count))

    def noise(self, count: int) -> Samples:
        """One or two kinds of noise at RMS 1; sometimes it starts or stops within."""
        rng = self._rng
        total = self._one(count)
        if rng.random() < 0.3:
            total = total + self._one(count) * np.float32(rng.uniform(0.2, 1))
        if rng.random() < 0.25:
            edge = int(rng.integers(count))
            total = total.copy()
            total[slice(edge, None) if rng.random() < 0.5 else slice(edge)] *= rng.choice([0, 0.1, 0.3])
        return total.astype(np.float32)

    def weigh(self, probability: Callable[[Samples], float]) -> float:
        """Draw recordings the more often, the surer a detector is that they are speech; the mean of how sure it is."""
        heard = np.array([probability(clip) for clip in self._alone])
        self._odds = (EASY + heard) / np.sum(EASY + heard)
        return float(heard.mean())

    def _one_alone(self, count: int) -> Samples:
        """One recording: a stretch of a long one, or all of a short one somewhere."""
        rng = self._rng
        clip = self._alone[int(rng.choice(len(self._alone), p=self._odds))]
        if rng.random() < 0.5:
            clip = self._changed(np.tile(clip, 2), round(len(clip) * rng.uniform(0.7, 1)))
        place = int(rng.integers(abs(len(clip) - count) + 1))
        if len(clip) > count:
            return noises.unit(clip[place : place + count])
        silence = (rng.standard_normal(count) * 10 ** (-rng.uniform(20, 70) / 20)).astype(np.float32)
        silence[place : place + len(clip)] += noises.unit(clip)
        return silence

    def _one(self, count: int) -> Samples:
        rng = self._rng
        if rng.random() < 0.65:
            return self._changed(self._recordings.take(rng, round(count * 1.4)), count)
        clip = self._pool[int(rng.integers(POOL))]
        place = int(rng.integers(POOL_SAMPLES - count))
        return clip[place : place + count]

    def _changed(self, noise: Samples, count: int) -> Samples:
        """Play recorded noise slower or faster and through another microphone: there are few recordings."""
        rng = self._rng
        if rng.random() < 0.6:
            noise = np.interp(np.arange(count) * rng.uniform(0.7, 1.39), np.arange(len(noise)), noise)
        if rng.random() < 0.4:
            noise = scipy.signal.lfilter([1.0, rng.uniform(-0.9, 0.9)], [1.0, rng.uniform(-0.5, 0.5)], noise)
        return noises.unit(noise[:count])

    def _room(self, clean: Samples) -> Samples:
        rng = self._rng
        real = self._recordings.rooms
        room = real[int(rng.integers(len(real)))] if rng.random() < 0.3 else noises.synthetic_room(rng)
        wet = scipy.signal.oaconvolve(clean, room)[: len(clean)]
        return (wet / np.sqrt(np.sum(np.square(room)))).astype(np.float32)

    def _finish(self, samples: Samples) -> Samples:
        """Band, level, clipping and rounding of a cheap recorder."""
        rng = self._rng
        if rng.random() < 0.3:
            samples = _narrow(rng, samples)
        if rng.random() < 0.3:
            tilt = float(rng.uniform(-0.7, 0.7))
            samples = scipy.signal.lfilter([1.0, tilt], [1.0], samples).astype(np.float32)
        samples = samples * np.float32(10 ** (rng.uniform(-36, 14) / 20))
        samples = np.clip(samples, -1, 1)
        return (np.round(samples * 32767) / 32768).astype(np.float32)


def _narrow(rng: np.random.Generator, samples: Samples) -> Samples:
    top, bottom = float(np.exp(rng.uniform(np.log(3000), np.log(7500)))), float(rng.uniform(40, 350))
    band = scipy.signal.butter(4, (bottom, top), "bandpass", fs=SAMPLE_RATE, output="sos")
    return scipy.signal.sosfilt(band, samples).astype(np.float32)


def at_snr(clean: Samples, noise: npt.NDArray[np.float32], snr_db: float) -> Samples:
    """Speech with noise (RMS 1) at `snr_db`, turned down where it would clip."""
    mixed = clean + np.float32(SPEECH_RMS * 10 ** (-snr_db / 20)) * noise
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)
