"""Which clips make up an epoch, and the tensors of a batch."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from recipes.embedded.corpus import Clip, Shard, Word, read_shard, shard_names
from recipes.embedded.guidance import SECONDS_PER_FRAME, UNGUIDED, frame_labels

CLEAN_SETS = ("kathleen", "an4", "ljspeech_part")
"""Native readers in quiet rooms: the start of the curriculum."""
TIMES = {"kathleen": 2.0, "ljspeech_part": 2.0, "speechocean762": 0.5}
"""How often an epoch hears a clip of a set (others once): sentences read aloud are what is learned last."""
LONGEST = 20.5
"""Seconds; longer clips are left out."""


class Tokenizer(Protocol):
    """What the batches need of NeMo's tokenizer."""

    def text_to_ids(self, text: str, /) -> list[int]:
        """Sub-word ids of a text."""
        ...


@dataclass(frozen=True, slots=True)
class Mix:
    """How much of what an epoch holds."""

    clean_only: bool = False
    """Only `CLEAN_SETS`."""
    synthetic_share: float = 0.5
    """Hours of synthetic speech, at most, as a share of the epoch."""
    digits_share: float = 0.3
    """Share of the joined digits that an epoch draws."""
    unspoken_share: float = 0.0
    """Clips in which nobody speaks, as a share of the epoch's clips."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded tensors of some clips."""

    waves: torch.Tensor
    """float32 [batch, samples]."""
    wave_lengths: torch.Tensor
    """int64 [batch], samples."""
    targets: torch.Tensor
    """int64 [sum of target lengths], for CTC."""
    target_lengths: torch.Tensor
    """int64 [batch]."""
    labels: torch.Tensor
    """int64 [batch, frames], frame-wise guidance or `UNGUIDED`."""

    @property
    def seconds(self) -> float:
        """Seconds of speech, padding not counted."""
        return float(self.wave_lengths.sum()) / 16_000


Pick = tuple[Shard, int]
"""A shard and the index of a clip."""


def epoch(work: Path, mix: Mix, rng: np.random.Generator) -> list[Pick]:
    """Choose the clips of one epoch, from the shards that exist now."""
    shards = [read_shard(work, name) for name in shard_names(work, "real")]
    real = [(shard, i) for shard in shards for i in range(len(shard.clips))]
    if mix.clean_only:
        return [(shard, i) for shard, i in real if shard.clips[i].set in CLEAN_SETS and _fits(shard.clips[i])]
    real = [pick for pick in real for _ in range(_times(pick, rng))]
    digits = read_shard(work, "digits")
    some = rng.permutation(len(digits.clips))[: int(len(digits.clips) * mix.digits_share)]
    picks = real + [(digits, int(i)) for i in some]
    picks = [(shard, i) for shard, i in picks + synthetic(work, picks, mix, rng) if _fits(shard.clips[i])]
    return picks + unspoken(work, len(picks), mix, rng)


def _times(pick: Pick, rng: np.random.Generator) -> int:
    """How often this epoch hears a clip; a fraction is a chance."""
    return int(TIMES.get(pick[0].clips[pick[1]].set, 1.0) + rng.random())


def synthetic(work: Path, picks: list[Pick], mix: Mix, rng: np.random.Generator) -> list[Pick]:
    """Synthetic clips in random order until they fill their share."""
    shards = [read_shard(work, name) for name in shard_names(work, "synth-")]
    every = [(shard, i) for shard in shards for i in range(len(shard.clips))]
    budget = sum(_seconds(pick) for pick in picks) * mix.synthetic_share / (1 - mix.synthetic_share)
    chosen = []
    for index in rng.permutation(len(every)):
        budget -= _seconds(every[index])
        if budget < 0:
            break
        chosen.append(every[index])
    return chosen


def unspoken(work: Path, others: int, mix: Mix, rng: np.random.Generator) -> list[Pick]:
    """Clips in which nobody speaks: so many that they are their share beside `others`."""
    if mix.unspoken_share == 0:
        return []
    shard = read_shard(work, "unspoken")
    count = int(others * mix.unspoken_share / (1 - mix.unspoken_share))
    return [(shard, int(i)) for i in rng.permutation(len(shard.clips))[:count]]


def _seconds(pick: Pick) -> float:
    return pick[0].clips[pick[1]].seconds


def _fits(clip: Clip) -> bool:
    return 0.3 < clip.seconds <= LONGEST and bool(clip.text)


def group(picks: list[Pick], batch_seconds: float, rng: np.random.Generator) -> list[list[Pick]]:
    """Batches of clips of like length, in random order."""
    jitter = rng.uniform(0.9, 1.1, len(picks))
    order = sorted(range(len(picks)), key=lambda k: _seconds(picks[k]) * jitter[k])
    batches: list[list[Pick]] = [[]]
    longest = 0.0
    for k in order:
        longest = max(longest, _seconds(picks[k]))
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = _seconds(picks[k])
        batches[-1].append(picks[k])
    rng.shuffle(batches)
    return batches


def collate(
    picks: list[Pick],
    tokenizer: Tokenizer,
    blank: int,
    treat: Callable[[npt.NDArray[np.float32]], tuple[npt.NDArray[np.float32], float]] | None,
) -> Batch:
    """Make the tensors of a batch, treated by the augmentation if there is one."""
    waves, targets, labels = [], [], []
    for shard, i in picks:
        wave, rate = shard.wave(i), 1.0
        if treat:
            wave, rate = treat(wave)
        waves.append(torch.from_numpy(wave))
        targets.append(torch.tensor(tokenizer.text_to_ids(shard.clips[i].text), dtype=torch.int64))
        labels.append(_guide(shard.words[i], tokenizer, len(wave), blank, rate))
    return Batch(
        torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
        torch.tensor([len(wave) for wave in waves]),
        torch.cat(targets),
        torch.tensor([len(ids) for ids in targets]),
        torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=UNGUIDED),
    )


def _guide(words: list[Word] | None, tokenizer: Tokenizer, samples: int, blank: int, rate: float) -> torch.Tensor:
    """Frame labels of one clip, all `UNGUIDED` where nothing aligned."""
    frames = int(samples / 16_000 / SECONDS_PER_FRAME) + 1
    if words is None:
        return torch.full((frames,), UNGUIDED)
    moved = [Word(word.text, word.start / rate, word.end / rate) for word in words]
    pieces = [tokenizer.text_to_ids(word.text) for word in words]
    return torch.from_numpy(frame_labels(moved, pieces, frames, blank))


def ahead(batches: Iterable[Batch], depth: int = 4) -> Iterator[Batch]:
    """Yield the same batches, made by a thread a few steps ahead."""
    waiting: queue.Queue[Batch | None] = queue.Queue(depth)

    def fill() -> None:
        for batch in batches:
            waiting.put(batch)
        waiting.put(None)

    threading.Thread(target=fill, daemon=True).start()
    while (batch := waiting.get()) is not None:
        yield batch
