"""Measures the detector on speakers and noises that training never had, beside Silero and WebRTC.

`python -m recipes.vad.measure --shards … --work … --silero GRAPH [--sounds INDEX]` prints the tables of README.md.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import webrtcvad
from recipes.embedded.corpus import SAMPLE_RATE, read_shard
from recipes.vad import noises
from recipes.vad.mixture import at_snr
from recipes.vad.noises import Recordings, Samples
from recipes.vad.silero import Silero

from nautilus.audio.vad import HOP, VadLimits, find_spans, speech_probabilities

Detect = Callable[[Samples], npt.NDArray[np.floating]]
SNRS = (None, 20, 10, 5, 0)
AUDIBLE = 10 ** (-50 / 20)
"""RMS of a frame that counts as speech in the energy reference: 24 dB below the speech's level."""
PADDED = VadLimits(pad=0.2)


def webrtc(mode: int) -> Detect:
    """Build WebRTC's detector (Gaussian mixtures), one decision per 20 ms."""

    def detect(waveform: Samples) -> npt.NDArray[np.floating]:
        detector = webrtcvad.Vad(mode)
        pcm = (np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()
        size = 2 * HOP
        frames = range(0, len(pcm) // size * size, size)
        return np.array([detector.is_speech(pcm[place : place + size], SAMPLE_RATE) for place in frames], float)

    return detect


def f1(decided: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall over frames, in percent."""
    return float(200 * np.sum(decided & wanted) / max(1, decided.sum() + wanted.sum()))


def energy(clean: Samples) -> npt.NDArray[np.bool_]:
    """Speech is where the clean signal is audible, smoothed over 100 ms."""
    rms = np.sqrt(np.square(clean).reshape(-1, HOP).mean(axis=1))
    return scipy.ndimage.median_filter((rms > AUDIBLE).astype(np.int8), 5).astype(bool)


def mixtures(audio: npt.NDArray[np.int16], held_back: Recordings, snr: float | None) -> list[Samples]:
    """Mix every stream with one kind of noise in turn, the same for all SNRs."""
    rng = np.random.default_rng(6)
    kinds = sorted(held_back.kinds)
    result = []
    for index, stream in enumerate(audio):
        clean = stream.astype(np.float32) / 32768
        noise = held_back.take(rng, len(clean), kinds[index % len(kinds)])
        result.append(clean if snr is None else at_snr(clean, noise, snr))
    return result


def accuracy(detectors: dict[str, Detect], stored: dict[str, npt.NDArray], held_back: Recordings) -> None:  # type: ignore[type-arg]  # int16 and float16
    """Print F1 against Silero on the clean signal and against its energy."""
    clean = [stream.astype(np.float32) / 32768 for stream in stored["audio"]]
    references = {
        "Silero on the clean signal": np.concatenate(stored["labels"]) >= 0.5,
        "energy of the clean signal": np.concatenate([energy(stream) for stream in clean]),
    }
    heard = {
        (name, snr): [detect(mix) for mix in mixtures(stored["audio"], held_back, snr)]
        for snr in SNRS
        for name, detect in detectors.items()
    }
    decisions = {key: np.concatenate(streams) >= 0.5 for key, streams in heard.items()}
    for title, wanted in references.items():
        print(f"\nF1 in %, reference: {title} ({wanted.mean():.0%} speech)\n")
        print("| detector | clean | 20 dB | 10 dB | 5 dB | 0 dB |")
        print("|---|---|---|---|---|---|")
        for name in detectors:
            print(f"| {name} | " + " | ".join(f"{f1(decisions[name, snr], wanted):.1f}" for snr in SNRS) + " |")
    both = np.logical_and(*references.values())
    for name in ("ours", "Silero"):
        inside = {snr: np.concatenate([taken(stream, PADDED) for stream in heard[name, snr]]) for snr in SNRS}
        shares = (f"{100 * np.sum(both & ~inside[snr]) / both.sum():.1f}" for snr in SNRS)
        print(f"\nMissed by {name}, in % of what both references call speech, clean to 0 dB: {', '.join(shares)}")


def taken(probabilities: npt.NDArray[np.floating], limits: VadLimits) -> npt.NDArray[np.bool_]:
    """Which frames lie inside spans."""
    inside = np.zeros(len(probabilities), bool)
    for span in find_spans(probabilities.astype(np.float32), limits):
        inside[round(span.start * SAMPLE_RATE / HOP) : round(span.end * SAMPLE_RATE / HOP)] = True
    return inside


def false_alarms(detectors: dict[str, Detect], held_back: Recordings, packages: dict[str, list[Samples]]) -> None:
    """Print how much of what is not speech each detector takes for speech, in percent of the time."""
    rng, count = np.random.default_rng(7), 30 * SAMPLE_RATE
    sounds = {kind: [held_back.take(rng, count, kind) * np.float32(0.05) for _ in range(3)] for kind in held_back.kinds}
    for name, maker in (
        ("music (made)", noises.music),
        ("tones (made)", noises.tones),
        ("clicks (made)", noises.clicks),
    ):
        sounds[name] = [maker(rng, count) * np.float32(0.05) for _ in range(8)]
    sounds["near silence"] = [
        (rng.standard_normal(count) * 10 ** (-level / 20)).astype(np.float32) for level in (60, 75, 90)
    ]
    sounds["digital silence"] = [np.zeros(count, np.float32)]
    sounds |= packages
    print("\nTime taken for speech, in %\n\n| sound | " + " | ".join(detectors) + " |\n|---|" + "---|" * len(detectors))
    for kind in sorted(sounds):
        shares = [np.mean([share(detect(sound)) for sound in sounds[kind]]) for detect in detectors.values()]
        print(f"| {kind} | " + " | ".join(f"{value:.1f}" for value in shares) + " |")


def share(probabilities: npt.NDArray[np.floating]) -> float:
    """Percent of the time inside spans, with the planner's limits."""
    return 100 * float(taken(probabilities, VadLimits()).mean())


def speeds(detectors: dict[str, Detect], waveform: Samples) -> None:
    """Print audio seconds per second of this thread's processor time, best of several runs, turn by turn."""
    best = dict.fromkeys(detectors, float("inf"))
    for turn in range(12):
        for name, detect in detectors.items():
            if turn >= 3 and best[name] > 0.3:
                continue
            started = time.thread_time()
            detect(waveform)
            best[name] = min(best[name], time.thread_time() - started)
    print(f"\nSpeed on {len(waveform) / SAMPLE_RATE:.0f} s, one thread\n")
    print("| detector | times real time | ms per s of audio |\n|---|---|---|")
    for name, seconds in best.items():
        total = len(waveform) / SAMPLE_RATE
        print(f"| {name} | {total / seconds:,.0f} | {1000 * seconds / total:.3f} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--silero", type=Path, required=True)
    parser.add_argument("--sounds", type=Path, help="index of further noise, JSON lines")
    options = parser.parse_args()
    packages = noises.sounds(options.sounds, "test") if options.sounds else {}
    _, held_back = noises.split(read_shard(options.shards, "noise"))
    stored = dict(np.load(options.work / "test.npz"))
    detectors: dict[str, Detect] = {"ours": speech_probabilities, "Silero": Silero(options.silero).frames}
    detectors |= {f"WebRTC {mode}": webrtc(mode) for mode in range(4)}
    accuracy(detectors, stored, held_back)
    false_alarms({name: detectors[name] for name in ("ours", "Silero", "WebRTC 3")}, held_back, packages)
    waveform = np.concatenate(stored["audio"][:10]).astype(np.float32) / 32768
    speeds({name: detectors[name] for name in ("ours", "Silero", "WebRTC 3")}, waveform)
    speeds({name: detectors[name] for name in ("ours", "Silero", "WebRTC 3")}, waveform[: 5 * SAMPLE_RATE])


if __name__ == "__main__":
    main()
