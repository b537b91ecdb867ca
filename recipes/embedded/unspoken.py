"""Sounds in which nobody speaks: the model should write nothing.

    python -m recipes.embedded.unspoken --work WORK [--sounds INDEX] [--clips N]

Makes the shards `unspoken` (to train on) and `unspoken-test` (to count the words that a model makes of
them), with empty texts: pieces of recorded noise and music, at many levels and speeds, alone or two at
once, and made ones. Of `WORK`'s noise, one half is to train on, the other to test on
(`recipes.vad.noises.split`). INDEX lists more to train on: lines of JSON with `file`, `kind`, `package`
and `split`, of which only `train` is read.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from recipes.embedded.corpus import SAMPLE_RATE, Shard, read_lines, read_shard, to_wave, write_shard
from recipes.embedded.prepare import Item, decode
from recipes.embedded.scoring import Reader, words_of
from recipes.vad import noises
from recipes.vad.noises import Samples

SET = "unspoken"
"""What `Clip.set` begins with where nobody speaks; the kind of sound follows."""
MADE = {"made noise": noises.coloured, "made tones": noises.tones, "made music": noises.music,
        "made clicks": noises.clicks}  # fmt: skip
SPOKEN_KINDS = ("babble", "speech", "voice")
"""Kinds in which words can be heard, by a part of their name."""

Kinds = dict[str, list[Samples]]
"""Recordings by kind."""


def recordings(work: Path, index: Path | None) -> tuple[Kinds, Kinds]:
    """Noise to train on and to test on."""
    train, test = (
        {kind: clips for kind, clips in half.kinds.items() if wordless(kind)}
        for half in noises.split(read_shard(work, "noise"))
    )
    for line in read_lines(index) if index else ():
        if line["split"] == "train" and wordless(line["kind"]):
            kind = f"{line['kind']} of {line['package']}"
            train.setdefault(kind, []).append(to_wave(decode(index.parent / line["file"])))
    return train, test


def wordless(kind: str) -> bool:
    """Whether nobody speaks in a kind of noise."""
    return not any(part in kind.lower() for part in SPOKEN_KINDS)


def recorded(kinds: Kinds, rng: np.random.Generator, seconds: float) -> tuple[Samples, str]:
    """Cut a piece of one recording, as it was or faster or slower; its kind."""
    kind = str(rng.choice(list(kinds)))
    clip = kinds[kind][int(rng.integers(len(kinds[kind])))]
    speed = float(rng.uniform(0.8, 1.25)) if rng.random() < 0.4 else 1.0
    size = int(seconds * speed * SAMPLE_RATE)
    start = int(rng.integers(max(1, len(clip) - size)))
    return soxr.resample(clip[start : start + size], SAMPLE_RATE * speed, SAMPLE_RATE, "MQ"), kind


def made(rng: np.random.Generator, seconds: float) -> tuple[Samples, str]:
    """Make noise, tones, music or clicks."""
    kind = str(rng.choice(list(MADE)))
    return MADE[kind](rng, int(seconds * SAMPLE_RATE)), kind


def sound(kinds: Kinds, rng: np.random.Generator) -> tuple[npt.NDArray[np.int16], str]:
    """Draw half a second to eight seconds of something, and its kind."""
    seconds, chance = float(rng.uniform(0.5, 8.0)), rng.random()
    if chance < 0.08:
        faint = rng.standard_normal(int(seconds * SAMPLE_RATE)) * 10 ** rng.uniform(-5.0, -3.0)
        return as_int16(faint * (rng.random() > 0.25)), "silence"
    wave, kind = made(rng, seconds) if chance < 0.25 else recorded(kinds, rng, seconds)
    if rng.random() < 0.25:
        other, second = recorded(kinds, rng, seconds)
        size = min(len(wave), len(other))
        wave = noises.unit(wave[:size]) + noises.unit(other[:size]) * 10 ** rng.uniform(-0.75, 0.0)
        kind = "mixed" if kind != second else kind
    return as_int16(noises.unit(wave) * 10 ** rng.uniform(-2.6, -0.6)), kind


def as_int16(wave: npt.NDArray[np.floating]) -> npt.NDArray[np.int16]:
    """Floats to samples."""
    return (np.clip(wave, -1, 1) * 32767).astype(np.int16)


def clips(kinds: Kinds, seed: int, count: int) -> Iterator[Item]:
    """`count` sounds as shard items."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        samples, kind = sound(kinds, rng)
        yield samples, "", "", f"{SET} {kind}"


def words_made(reader: Reader, shard: Shard, pieces: list[str]) -> Counter[str]:
    """Count the words that a model makes of each kind of sound."""
    found: Counter[str] = Counter()
    for i, clip in enumerate(shard.clips):
        found[clip.set.removeprefix(f"{SET} ")] += len(words_of(reader([shard.samples(i)])[0], pieces).split())
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sounds", type=Path)
    parser.add_argument("--clips", type=int, default=4000)
    options = parser.parse_args()
    for name, kinds, seed in zip((SET, f"{SET}-test"), recordings(options.work, options.sounds), (5, 6), strict=True):
        count = options.clips if name == SET else options.clips // 10
        print(name, write_shard(options.work, name, clips(kinds, seed, count)), sorted(kinds), flush=True)


if __name__ == "__main__":
    main()
