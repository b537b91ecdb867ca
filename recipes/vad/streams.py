"""Clean streams: clips of one or several speakers with silence between them, labelled by Silero.

`python -m recipes.vad.streams --shards SHARDS --work WORK --silero GRAPH`
writes `train.npz` and `test.npz`: samples as int16 and the teacher's probabilities, both in one row
per stream of 30 seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from recipes.embedded.corpus import SAMPLE_RATE, Shard, read_shard
from recipes.vad.silero import HOP, Silero

STREAM_SECONDS = 30
SAMPLES = STREAM_SECONDS * SAMPLE_RATE
SPEECH_DB = -26.0
"""Level of the speech in a stream, dB full scale, before the mixture moves it."""


def build_stream(rng: np.random.Generator, shard: Shard, order: list[int]) -> npt.NDArray[np.float32]:
    """Take clips off the end of `order` until 30 seconds are full; shape [samples]."""
    stream = room_tone(rng)
    place = int(gap(rng) * SAMPLE_RATE)
    while order and place < SAMPLES - SAMPLE_RATE:
        clip = shard.samples(order.pop()).astype(np.float32) / 32768
        clip *= level(clip, SPEECH_DB + rng.normal(0, 2.5))
        clip = clip[: SAMPLES - place]
        stream[place : place + len(clip)] += clip
        place += len(clip) + int(gap(rng) * SAMPLE_RATE)
    return np.clip(stream, -1, 1)


def gap(rng: np.random.Generator) -> float:
    """Seconds of silence between two clips."""
    return float(min(0.1 + rng.exponential(0.9), 6.0))


def room_tone(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Near silence of -90 to -65 dB, or digital silence in every fourth stream."""
    if rng.random() < 0.25:
        return np.zeros(SAMPLES, np.float32)
    return (rng.standard_normal(SAMPLES) * 10 ** (rng.uniform(-90, -65) / 20)).astype(np.float32)


def level(clip: npt.NDArray[np.float32], target_db: float) -> float:
    """Factor that brings the louder half of a clip's frames to `target_db`."""
    frames = clip[: len(clip) // HOP * HOP].reshape(-1, HOP)
    powers = np.sort(np.square(frames).mean(axis=1))[len(frames) // 2 :]
    return float(10 ** (target_db / 20) / np.sqrt(powers.mean() + 1e-12))


def write_streams(path: Path, shards: list[Shard], teacher: Silero, limit: int, seed: int) -> None:
    """Write up to `limit` streams of each shard, with labels."""
    rng = np.random.default_rng(seed)
    audio, labels = [], []
    for shard in shards:
        order = [int(index) for index in rng.permutation(len(shard.clips))]
        for _ in range(limit):
            if not order:
                break
            stream = build_stream(rng, shard, order)
            audio.append((stream * 32767).astype(np.int16))
            labels.append(teacher.frames(stream).astype(np.float16))
        print(f"{path.name}: {len(audio)} streams after {shard.name}", flush=True)
    np.savez(path, audio=np.stack(audio), labels=np.stack(labels))


def main() -> None:
    """Write the streams to train on and to test on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--silero", type=Path, required=True)
    options = parser.parse_args()
    teacher = Silero(options.silero)
    unseen = [read_shard(options.shards, f"dev-{name}") for name in ("an4", "kathleen", "speechocean762")]
    write_streams(options.work / "test.npz", unseen, teacher, 12, seed=2)
    write_streams(options.work / "train.npz", [read_shard(options.shards, "real")], teacher, 10_000, seed=1)


if __name__ == "__main__":
    main()
