"""Speech as the world delivers it: the same utterances clean, in every noise, over the telephone, quiet, and so on.

    python benchmarks/conditions.py TARGET --speech FOLDER

writes `TARGET/tune.jsonl` and `TARGET/report.jsonl`, manifests whose `set` is the condition, and their recordings:

    nautilus evaluate TARGET/report.jsonl --levels none,low,medium,high,auto --plain

The two halves share no utterance and no second of noise: choose by the first, report the second. All randomness has
fixed seeds, so the same speech gives the same files.
"""

import argparse
import json
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.random import Generator

from engine_alone import decode
from nautilus.audio.quality import speech_level
from nautilus.types import SAMPLE_RATE, Waveform

HALVES = ("tune", "report")
SNRS = (20, 10, 5, 0)
"""dB: the speech's level over the root mean square of the noise's recordings."""
READERS = {"an4": 70, "kathleen": 26}
"""Utterances of these sets of `dev_en`, at most. The embedded model's other set is too hard for it to tell much."""
DIGITS_SPEAKER = "theo"
"""The one that the embedded model was not trained on."""
DIGITS_IN_ROW = (3, 7)
NO_NOISE = ("room impulse response", "digital silence?")
QUIET_DB = -50.0
CLIPPED_BY = 4.0
"""How many times louder than full scale."""
OFFSET = 0.1
TELEPHONE_HZ = (300.0, 3400.0)
TELEPHONE_RATE = 8000
LOUDEST = 0.99
SHARE = 2
"""One in so many utterances is mixed with a noise at an SNR; other noises and other SNRs take others."""
SEED = 20

Change = Callable[[Waveform, Generator], Waveform]


@dataclass(frozen=True, slots=True)
class Clip:
    """An utterance and what is said in it."""

    waveform: Waveform
    text: str
    speaker: str


def write_conditions(speech: Path, target: Path, name: str) -> Path:
    """Make one half; its manifest."""
    half = HALVES.index(name)
    clips = [*read_clips(speech), *digit_rows(speech)][half::2]
    noises = {kind: both[half] for kind, both in read_noises(speech).items()}
    rows: list[dict[str, Any]] = []
    for number, (condition, change) in enumerate(conditions(noises)):
        folder = target / name / condition.replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        chosen = list(enumerate(clips))
        for place, clip in chosen[number // len(SNRS) % SHARE :: SHARE] if condition.endswith(" dB") else chosen:
            changed = change(clip.waveform, np.random.default_rng([SEED, half, number, place]))
            rows.append(write_clip(folder / f"{place:03}.wav", changed, clip, condition, target))
    manifest = target / f"{name}.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


def conditions(noises: dict[str, Waveform]) -> Iterator[tuple[str, Change]]:
    """Yield the name of each condition, and what it does to a recording."""
    yield "clean", lambda waveform, _: waveform
    yield "quiet", lambda waveform, _: waveform * gain(QUIET_DB - speech_level(waveform))
    yield "clipped", lambda waveform, _: np.clip(waveform * np.float32(CLIPPED_BY / np.abs(waveform).max()), -1, 1)
    yield "offset", lambda waveform, _: waveform + np.float32(OFFSET)
    yield "telephone", lambda waveform, _: over_telephone(waveform)
    yield "reverberant", in_room
    for kind, noise in noises.items():
        for snr in SNRS:
            yield f"{kind} {snr} dB", partial(mixed, noise, snr)


def mixed(noise: Waveform, snr: float, waveform: Waveform, rng: Generator) -> Waveform:
    """Add a stretch of a noise whose root mean square is 1."""
    start = int(rng.integers(len(noise)))
    stretch = np.take(noise, range(start, start + len(waveform)), mode="wrap")
    return below_full_scale(waveform + stretch * gain(speech_level(waveform) - snr))


def in_room(waveform: Waveform, rng: Generator) -> Waveform:
    """Let a room of 0.3 to 0.8 s answer: decaying noise 20 ms after the voice, as loud as the voice."""
    from scipy.signal import fftconvolve

    seconds = rng.uniform(0.3, 0.8)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    room[: SAMPLE_RATE // 50] = 0
    room /= np.sqrt(np.sum(room**2))
    room[0] = 1.0
    return below_full_scale(np.asarray(fftconvolve(waveform, room)[: len(waveform)], np.float32))


def over_telephone(waveform: Waveform) -> Waveform:
    """Band of a telephone line, 8 kHz, 8-bit mu-law (ITU-T G.711's curve)."""
    from scipy.signal import butter, sosfilt

    band = butter(4, TELEPHONE_HZ, "bandpass", fs=TELEPHONE_RATE, output="sos")
    narrow = sosfilt(band, soxr.resample(waveform, SAMPLE_RATE, TELEPHONE_RATE))
    narrow = np.clip(narrow, -1, 1)
    code = np.round(127 * np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)) / 127
    wide = soxr.resample(np.sign(code) * np.expm1(np.abs(code) * np.log(256)) / 255, TELEPHONE_RATE, SAMPLE_RATE)
    return np.asarray(np.pad(wide, (0, max(0, len(waveform) - len(wide))))[: len(waveform)], np.float32)


def below_full_scale(waveform: Waveform) -> Waveform:
    """Turn down what would clip."""
    return waveform * np.float32(min(1.0, LOUDEST / np.abs(waveform).max()))


def gain(decibels: float) -> np.float32:
    """Return the factor."""
    return np.float32(10 ** (decibels / 20))


def read_clips(speech: Path) -> Iterator[Clip]:
    """Yield read utterances of 1 to 12 seconds."""
    rows = [row for row in read_rows(speech / "dev_en.jsonl") if 1 <= row["duration"] <= 12]  # noqa: PLR2004
    for name, count in READERS.items():
        chosen = [row for row in rows if row["set"] == name]
        chosen = chosen[:: max(1, len(chosen) // count)][:count]
        waveforms = decode([speech / row["audio_filepath"] for row in chosen])
        for row, waveform in zip(chosen, waveforms, strict=True):
            yield Clip(waveform, row["text"], row["speaker"])


def digit_rows(speech: Path) -> Iterator[Clip]:
    """Yield spoken digits a few in a row, each recording once, with pauses of almost nothing."""
    rng = np.random.default_rng(SEED)
    rows = [row for row in read_rows(speech / "digits_en.jsonl") if row["speaker"] == DIGITS_SPEAKER]
    rng.shuffle(rows)
    while rows:
        count = int(rng.integers(DIGITS_IN_ROW[0], DIGITS_IN_ROW[1] + 1))
        row, rows = rows[:count], rows[count:]
        parts = [pause(rng)]
        for waveform in decode([speech / one["audio_filepath"] for one in row]):
            parts += [waveform, pause(rng)]
        yield Clip(np.concatenate(parts), " ".join(one["text"] for one in row), DIGITS_SPEAKER)


def pause(rng: Generator) -> Waveform:
    """Return 0.1 to 0.4 seconds at about -80 dB."""
    return (1e-4 * rng.standard_normal(int(rng.uniform(0.1, 0.4) * SAMPLE_RATE))).astype(np.float32)


def read_noises(speech: Path) -> dict[str, tuple[Waveform, Waveform]]:
    """Return the recordings of each kind of noise, all as loud, in a row that is cut in two."""
    rows: dict[str, list[Path]] = {}
    for one in read_rows(speech / "noise.jsonl"):
        if one["label"] not in NO_NOISE:
            rows.setdefault(one["label"].replace("_", " "), []).append(speech / one["audio_filepath"])
    noises = {}
    for kind, files in sorted(rows.items()):
        recordings = [waveform / np.sqrt(np.mean(waveform**2)) for waveform in decode(files)]
        if len(recordings) == 2:  # noqa: PLR2004 - of unlike length: each would be in both halves
            recordings = [part for long in recordings for part in np.array_split(long, 2)]
            recordings = recordings[::2] + recordings[1::2]
        row = np.concatenate(recordings)
        noises[kind] = (row[: len(row) // 2], row[len(row) // 2 :])
    return noises


def read_rows(manifest: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def write_clip(path: Path, waveform: Waveform, clip: Clip, condition: str, target: Path) -> dict[str, Any]:
    """Write a recording as 16-bit PCM; its line of the manifest."""
    with wave.open(str(path), "wb") as output:
        output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        output.writeframes((np.clip(waveform, -1, 1) * 32767).round().astype("<i2").tobytes())
    return {
        "audio_filepath": str(path.relative_to(target)),
        "duration": len(waveform) / SAMPLE_RATE,
        "text": clip.text,
        "speaker": clip.speaker,
        "set": condition,
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parsed = parser.parse_args()
    for name in HALVES:
        print(write_conditions(parsed.speech, parsed.target, name))


if __name__ == "__main__":
    main()
