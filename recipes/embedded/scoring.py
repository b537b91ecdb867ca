"""Greedy reading and word error rates."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from recipes.embedded.corpus import Shard, read_shard, shard_names, to_wave

Reader = Callable[[list[npt.NDArray[np.int16]]], list[list[int]]]
"""Reads a batch of clips to lists of sub-word ids."""


def collapse(best: npt.NDArray[np.int64], blank: int) -> list[int]:
    """CTC's rule: drop repeats, then blanks. `best` has shape [frames]."""
    changed = np.concatenate([[True], best[1:] != best[:-1]]) if len(best) else np.zeros(0, bool)
    return [int(label) for label in best[changed] if label != blank]


def words_of(ids: list[int], pieces: list[str]) -> str:
    """Text of sub-word ids; `▁` begins a word."""
    return "".join(pieces[i] for i in ids).replace("▁", " ").strip()


def edits(reference: list[str], hypothesis: list[str]) -> int:
    """Count insertions, deletions and substitutions between two word lists."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(hypothesis, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def word_error_rate(reader: Reader, shard: Shard, pieces: list[str], limit: int | None = None) -> float:
    """Word error rate in percent over (the first `limit`, evenly spread) clips of a shard."""
    count = len(shard.clips)
    chosen = range(count) if limit is None else range(0, count, max(1, count // limit))
    wrong = total = 0
    for part in _of_like_length(shard, list(chosen)):
        for i, ids in zip(part, reader([shard.samples(i) for i in part]), strict=True):
            reference = shard.clips[i].text.split()
            wrong += edits(reference, words_of(ids, pieces).split())
            total += len(reference)
    return 100 * wrong / max(total, 1)


def _of_like_length(shard: Shard, chosen: list[int], batch_seconds: float = 60.0) -> Iterator[list[int]]:
    """Batches of indices, short clips first."""
    part: list[int] = []
    for i in sorted(chosen, key=lambda k: shard.clips[k].samples):
        if part and shard.clips[i].seconds * (len(part) + 1) > batch_seconds:
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def development_sets(work: Path) -> dict[str, Shard]:
    """Open the development shards, by set name."""
    return {name.removeprefix("dev-"): read_shard(work, name) for name in shard_names(work, "dev-")}


def nemo_reader(model: torch.nn.Module) -> Reader:
    """Read with a NeMo model (its look-ahead is the encoder's current one)."""
    blank = model.decoder.num_classes_with_blank - 1

    @torch.inference_mode()
    def read(clips: list[npt.NDArray[np.int16]]) -> list[list[int]]:
        lengths = torch.tensor([len(clip) for clip in clips])
        waves = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(to_wave(clip)) for clip in clips], batch_first=True)
        logprobs, frames, _ = model(input_signal=waves, input_signal_length=lengths)
        best = logprobs.argmax(-1).numpy()
        return [collapse(row[:count], blank) for row, count in zip(best, frames.tolist(), strict=True)]

    return read
