"""Shards of decoded speech: one int16 file, one line of JSON per clip.

A shard `name` in the folder `work/shards` is two files: `name.i16` (mono, 16 kHz, little-endian
samples of all clips, one after the other) and `name.jsonl`. The JSONL is written last, so a shard
that can be listed is complete. `name.align.jsonl`, where it exists, has the words' times.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance of a shard."""

    offset: int
    """First sample in the shard's int16 file."""
    samples: int
    """Length at 16 kHz."""
    text: str
    """Lower case a-z, apostrophe and space; empty for noise."""
    speaker: str
    set: str
    """Name of the corpus (or of the voice) that it comes from."""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where forced alignment found it."""

    text: str
    start: float
    """Seconds from the start of the clip."""
    end: float


@dataclass(frozen=True, slots=True)
class Shard:
    """The clips of one shard; samples are mapped from disk."""

    name: str
    clips: list[Clip]
    words: list[list[Word] | None]
    """Per clip: its alignment, or None where there is none."""
    audio: npt.NDArray[np.int16]

    def samples(self, index: int) -> npt.NDArray[np.int16]:
        """Return the samples of clip `index`, shape [samples]."""
        clip = self.clips[index]
        return self.audio[clip.offset : clip.offset + clip.samples]

    def wave(self, index: int) -> npt.NDArray[np.float32]:
        """Return clip `index` as floats in -1..1, shape [samples]."""
        return to_wave(self.samples(index))


def to_wave(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Scale int16 samples to -1..1."""
    return samples.astype(np.float32) * np.float32(1 / 32768)


def shard_names(work: Path, prefix: str = "") -> list[str]:
    """Names of the complete shards whose name starts with `prefix`, sorted."""
    names = (path.name.removesuffix(".jsonl") for path in (work / "shards").glob(f"{prefix}*.jsonl"))
    return sorted(name for name in names if not name.endswith(".align"))


def write_shard(work: Path, name: str, items: Iterable[tuple[npt.NDArray[np.int16], str, str, str]]) -> int:
    """Write a shard from (samples, text, speaker, set) items; returns the number of clips."""
    folder = work / "shards"
    folder.mkdir(parents=True, exist_ok=True)
    clips, offset = [], 0
    with (folder / f"{name}.i16").open("wb") as audio:
        for samples, text, speaker, source in items:
            if samples.dtype != np.int16 or samples.ndim != 1:
                message = f"{name}: a clip must be int16 of shape [samples]"
                raise TypeError(message)
            audio.write(samples.tobytes())
            clips.append(Clip(offset, len(samples), text, speaker, source))
            offset += len(samples)
    write_lines(folder / f"{name}.jsonl", (asdict(clip) for clip in clips))
    return len(clips)


def read_shard(work: Path, name: str) -> Shard:
    """Open a shard: metadata in memory, audio mapped."""
    folder = work / "shards"
    clips = [Clip(**line) for line in read_lines(folder / f"{name}.jsonl")]
    aligned = folder / f"{name}.align.jsonl"
    words: list[list[Word] | None] = [None] * len(clips)
    if aligned.exists():
        words = [None if line is None else [Word(*word) for word in line] for line in read_lines(aligned)]
    audio = np.memmap(folder / f"{name}.i16", dtype=np.int16, mode="r")
    return Shard(name, clips, words, audio)


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the parsed lines of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write_lines(path: Path, values: Iterable[object]) -> None:
    """Write a JSONL file at once, so that readers never see half of it."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as out:
        for value in values:
            out.write(json.dumps(value, ensure_ascii=False) + "\n")
    part.replace(path)
