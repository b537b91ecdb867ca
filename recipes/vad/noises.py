"""What is not speech: recorded noise in two halves (to train on, to test on), synthetic noise, tones and rooms."""

import json
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.signal
from recipes.embedded.corpus import SAMPLE_RATE, Shard

Samples = npt.NDArray[np.float32]

ROOM = "room impulse response"
SILENT = "digital silence?"
VOICES = "babble"
"""The one kind that is speech, of many at once: noise beside a voice, but no example of what is none."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """Noise recordings by kind, and room responses whose direct sound comes first."""

    kinds: dict[str, list[Samples]]
    rooms: list[Samples]

    def any_kind(self, rng: np.random.Generator) -> str:
        """Choose a kind, the likelier the more recordings it has: by the root of their number."""
        odds = np.sqrt([len(clips) for clips in self.kinds.values()])
        return str(rng.choice(list(self.kinds), p=odds / odds.sum()))

    def take(self, rng: np.random.Generator, count: int, kind: str | None = None) -> Samples:
        """`count` samples of one kind at RMS 1: pieces one after the other, looped where they are short."""
        clips = self.kinds[kind or self.any_kind(rng)]
        parts, have = [], 0
        while have < count:
            clip = clips[int(rng.integers(len(clips)))]
            parts.append(np.roll(clip, int(rng.integers(len(clip)))))
            have += len(clip)
        return unit(np.concatenate(parts)[:count])


def split(shard: Shard) -> tuple[Recordings, Recordings]:
    """Noise to train on and noise to test on: long files are cut in two, of short ones every third is kept back."""
    train, test = Recordings({}, []), Recordings({}, [])
    seen: dict[str, int] = {}
    for index, clip in enumerate(shard.clips):
        samples = shard.samples(index).astype(np.float32) / 32768
        place = seen[clip.set] = seen.get(clip.set, -1) + 1
        if clip.set == SILENT:
            continue
        if clip.set == ROOM:
            (test if place % 3 == 1 else train).rooms.append(direct_first(samples))
        elif clip.seconds > 10:
            cut = len(samples) * 6 // 10
            train.kinds.setdefault(clip.set, []).append(samples[:cut])
            test.kinds.setdefault(clip.set, []).append(samples[cut:])
        else:
            (test if place % 3 == 1 else train).kinds.setdefault(clip.set, []).append(samples)
    return train, test


def sounds(index: Path, part: str) -> dict[str, list[Samples]]:
    """Read one part (`train` or `test`) of the sounds of packages, by kind: 16-kHz wave files beside their index."""
    kinds: dict[str, list[Samples]] = {}
    for line in index.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == part:
            with wave.open(str(index.parent / row["file"])) as stored:
                samples = np.frombuffer(stored.readframes(stored.getnframes()), "<i2")
            kinds.setdefault(f"{row['kind']} (packages)", []).append(samples.astype(np.float32) / 32768)
    return kinds


def unit(samples: npt.NDArray[np.floating]) -> Samples:
    """Scale to RMS 1 (silence stays silence)."""
    return (samples / (np.sqrt(np.mean(np.square(samples))) + 1e-9)).astype(np.float32)


def direct_first(response: Samples) -> Samples:
    """Start a room response with its direct sound, which gets height 1."""
    peak = int(np.abs(response).argmax())
    return (response[peak : peak + SAMPLE_RATE] / response[peak]).astype(np.float32)


def synthetic_room(rng: np.random.Generator) -> Samples:
    """Direct sound and an exponentially decaying tail of noise (Polack 1988), RT60 of 0.15 to 0.9 s."""
    rt60 = rng.uniform(0.15, 0.9)
    time = np.arange(int(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60) * rng.uniform(0.01, 0.08)
    tail[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    tail[0] = 1
    return tail.astype(np.float32)


def coloured(rng: np.random.Generator, count: int) -> Samples:
    """Steady noise whose spectrum falls (or rises) by a random power of the frequency, sometimes swelling."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 30)
    noise = np.fft.irfft(spectrum * hertz ** rng.uniform(-1.2, 0.3), count)
    if rng.random() < 0.5:
        time = np.arange(count) / SAMPLE_RATE
        noise *= 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * (rng.uniform(0.1, 6) * time + rng.random()))
    return unit(noise)


def tones(rng: np.random.Generator, count: int) -> Samples:
    """Hum, whistles, sweeps and beeps: one to four sines, some with harmonics, some switched on and off."""
    time = np.arange(count) / SAMPLE_RATE
    total = np.zeros(count)
    for _ in range(int(rng.integers(1, 5))):
        hertz = float(np.exp(rng.uniform(np.log(45), np.log(4000))))
        phase = 2 * np.pi * hertz * time + rng.uniform(0, 5) * np.sin(2 * np.pi * rng.uniform(0.2, 6) * time)
        tone = sum(np.sin(phase * order) / order for order in range(1, int(rng.integers(2, 9))))
        if rng.random() < 0.5:
            tone = tone * (np.sin(2 * np.pi * rng.uniform(0.3, 4) * time) > rng.uniform(-0.5, 0.7))
        total += rng.uniform(0.2, 1) * tone
    return unit(total)


def music(rng: np.random.Generator, count: int) -> Samples:
    """Chords, a bass, a melody and a beat on a grid of eighths, from decaying or sustained harmonics."""
    total = np.zeros(count + 4 * SAMPLE_RATE)
    beat = int(SAMPLE_RATE * rng.uniform(0.12, 0.4))
    scale = np.array([0, 2, 4, 5, 7, 9, 11]) if rng.random() < 0.5 else np.array([0, 2, 3, 5, 7, 8, 10])
    root, brightness, decay = rng.uniform(90, 200), rng.uniform(0.3, 0.9), rng.uniform(0.5, 12)
    drums = rng.random() < 0.6
    for step in range(count // beat):
        steps = scale[rng.integers(0, 7, 4)] + np.array([0, 12, 12, -12])
        chosen = steps[rng.random(4) < (0.9 if step % 4 == 0 else 0.35)]
        for semitones in chosen:
            note = pluck(rng, root * 2 ** (semitones / 12), brightness, decay)
            total[step * beat : step * beat + len(note)] += note
        if drums and rng.random() < 0.7:
            hit = rng.standard_normal(2000) * np.exp(-np.arange(2000) / rng.uniform(80, 600)) * rng.uniform(0.2, 1.5)
            total[step * beat : step * beat + 2000] += hit
    return unit(total[:count])


def pluck(rng: np.random.Generator, hertz: float, brightness: float, decay: float) -> npt.NDArray[np.float64]:
    """One note with harmonics and an attack of 10 ms."""
    time = np.arange(int(rng.uniform(0.2, 1.5) * SAMPLE_RATE)) / SAMPLE_RATE
    vibrato = rng.uniform(0, 0.3) * np.sin(2 * np.pi * 5.5 * time)
    orders = range(1, max(2, min(9, int(7500 / hertz))))
    note = sum(brightness**order * np.sin(order * (2 * np.pi * hertz * time + vibrato)) for order in orders)
    edges = np.minimum(1, time / 0.01) * np.minimum(1, (time[-1] - time) / 0.02)
    return note * np.exp(-decay * time) * edges * rng.uniform(0.3, 1)


def clicks(rng: np.random.Generator, count: int) -> Samples:
    """Knocks and key strokes: short decaying bursts at random times."""
    total = np.zeros(count + 4000)
    for place in rng.integers(0, count, int(rng.integers(1, max(2, count // 4000)))):
        burst = rng.standard_normal(3000) * np.exp(-np.arange(3000) / rng.uniform(20, 400))
        total[place : place + 3000] += burst * rng.uniform(0.1, 1)
    low = scipy.signal.butter(1, rng.uniform(800, 7000), fs=SAMPLE_RATE, output="sos")
    return unit(scipy.signal.sosfilt(low, total)[:count])
