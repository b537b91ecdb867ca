"""Decode the recordings once into shards.

    python -m recipes.embedded.prepare --data SPEECH --work WORK

Shards: `real` (training speech), `digits` (spoken digits, all speakers but one, also joined into
sequences), `dev-<set>` (one per set of the development data), `dev-digits` (the speaker left out) and `noise`.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from recipes.embedded.corpus import SAMPLE_RATE, read_lines, shard_names, write_shard

HELD_OUT_SPEAKER = "theo"
"""The digits speaker that only tests hear."""
SPEECHOCEAN_SUBSET = 250
"""Clips of the second-language readers that are scored during training (of 1,000)."""

Item = tuple[npt.NDArray[np.int16], str, str, str]


def decode(path: Path) -> npt.NDArray[np.int16]:
    """Decode a recording to mono int16 at 16 kHz, shape [samples]."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    blocks: list[npt.NDArray[np.int16]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            blocks.extend(block.to_ndarray()[0] for block in resampler.resample(frame))
        blocks.extend(block.to_ndarray()[0] for block in resampler.resample(None))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


def plain(text: str) -> str:
    """Keep a-z, apostrophe and single spaces."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def decode_line(data: Path, line: dict[str, Any]) -> Item:
    """One manifest line as a shard item."""
    source = line.get("label") or line["set"]
    samples = decode(data / line["audio_filepath"])
    return samples, plain(line["text"]), line.get("speaker") or "", source


def joined_digits(items: list[Item], rng: np.random.Generator, count: int) -> Iterator[Item]:
    """Sequences of 3 to 11 digits of one speaker with random gaps, 2 to 8 s each."""
    by_speaker: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_speaker[item[2]].append(item)
    speakers = sorted(by_speaker)
    for number in range(count):
        speaker = speakers[number % len(speakers)]
        picked = [by_speaker[speaker][i] for i in rng.integers(len(by_speaker[speaker]), size=rng.integers(3, 12))]
        parts = [silence(rng, 0.1, 0.5)]
        for samples, *_ in picked:
            parts += [samples, silence(rng, 0.05, 0.45)]
        text = " ".join(text for _, text, *_ in picked)
        yield np.concatenate(parts), text, speaker, "digits"


def silence(rng: np.random.Generator, low: float, high: float) -> npt.NDArray[np.int16]:
    """Between `low` and `high` seconds of almost nothing (a noise of about -80 dB)."""
    size = int(rng.uniform(low, high) * SAMPLE_RATE)
    return rng.normal(0, 3, size).astype(np.int16)


def shards(data: Path, pool: ProcessPoolExecutor) -> Iterator[tuple[str, list[Item]]]:
    """Decode everything, one shard after the other."""
    read = partial(decode_line, data)
    rng = np.random.default_rng(1)
    yield "real", list(pool.map(read, read_lines(data / "train_en.jsonl"), chunksize=50))
    dev: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in read_lines(data / "dev_en.jsonl"):
        dev[line["set"]].append(line)
    for name, lines in sorted(dev.items()):
        yield f"dev-{name}", list(pool.map(read, lines, chunksize=50))
    digits = list(pool.map(read, read_lines(data / "digits_en.jsonl"), chunksize=50))
    train = [item for item in digits if item[2] != HELD_OUT_SPEAKER]
    test = [item for item in digits if item[2] == HELD_OUT_SPEAKER]
    yield "digits", list(joined_digits(train, rng, 600))
    yield "dev-digits", list(joined_digits(test, rng, 60))
    yield "noise", list(pool.map(read, read_lines(data / "noise.jsonl"), chunksize=10))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the speech sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made here")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if "noise" in shard_names(options.work):
        return
    with ProcessPoolExecutor(options.processes) as pool:
        for name, items in shards(options.data, pool):
            write_shard(options.work, name, items)
            hours = sum(len(item[0]) for item in items) / SAMPLE_RATE / 3600
            print(f"{name}: {len(items)} clips, {hours:.2f} h", flush=True)


if __name__ == "__main__":
    main()
