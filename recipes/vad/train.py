"""Trains the detector: `python -m recipes.vad.train --shards … --work … --steps 4000 --out vad.npz`.

PyTorch sees the rows and summaries that `nautilus.audio.vad.features` makes; the weights are
written as float16 under the names that it reads.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from recipes.embedded.corpus import read_shard
from recipes.vad.mixture import Mixer
from recipes.vad.noises import Samples, sounds, split
from torch import Tensor, nn
from torch.nn import functional as F

from nautilus.audio import vad

WIDTH = 64
"""Channels of the hidden layers."""
DILATIONS = (1, 2, 4, 8)
"""Rows (80 ms) between the taps of each convolution; as in `nautilus.audio.vad`."""
BATCH_FRAMES = 16 * 768
"""Frames in a batch (about 4 minutes)."""
NOISE_ONLY = 0.4
"""Part of the examples that have no speech at all."""
HARD_EVERY = 400
"""Steps after which the training noise is heard, to draw more often what is taken for speech."""
LONGEST = vad.STEP_FRAMES + 2 * vad.CONTEXT_FRAMES


class Detector(nn.Module):
    """The same network as in `nautilus.audio.vad`."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(vad.ROW * vad.BANDS, WIDTH)
        self.summary = nn.Linear(2 * vad.BANDS, WIDTH, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=step, dilation=step) for step in DILATIONS)
        self.leave = nn.Linear(WIDTH, vad.ROW)

    def forward(self, rows: Tensor, summary: Tensor) -> Tensor:
        """Logits per frame [batch, 4 rows] from rows [batch, rows, 128] and summaries [batch, 64]."""
        hidden = F.relu(self.enter(rows) + self.summary(summary)[:, None]).transpose(1, 2)
        for conv in self.convs:
            hidden = hidden + F.relu(conv(hidden))
        return self.leave(hidden.transpose(1, 2)).flatten(1)

    def load(self, path: Path) -> None:
        """Take the weights that `save` wrote."""
        with np.load(path) as arrays, torch.no_grad():
            stored = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
            for index, conv in enumerate(self.convs):
                conv.weight.copy_(stored[f"conv{index}"].reshape(3, WIDTH, WIDTH).permute(2, 1, 0))
            for name, value in self.weights().items():
                value.copy_(stored[name])  # a copy of a convolution's weights, the others themselves

    def weights(self) -> dict[str, Tensor]:
        """Arrays under the names of the run time, each to be multiplied from the right."""
        named = {"in": self.enter.weight.T, "in_bias": self.enter.bias, "summary": self.summary.weight.T}
        for index, conv in enumerate(self.convs):
            named[f"conv{index}"] = conv.weight.permute(2, 1, 0).reshape(3 * WIDTH, WIDTH)
            named[f"conv{index}_bias"] = conv.bias
        return named | {"out": self.leave.weight.T, "out_bias": self.leave.bias}


def batch(mixer: Mixer, audio: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Rows, summaries and targets of one batch; its examples share a random length."""
    short = rng.random() < 0.25
    frames = int(rng.integers(50, 250) if short else rng.integers(250, LONGEST)) // vad.ROW * vad.ROW
    rows, summaries, targets = [], [], []
    for _ in range(max(1, min(160, BATCH_FRAMES // frames))):
        stream, first = int(rng.integers(len(audio))), int(rng.integers(labels.shape[1] - frames))
        if rng.random() < NOISE_ONLY:
            wave, target = mixer.noise_only(frames * vad.HOP), np.zeros(frames, np.float32)
        else:
            clean = audio[stream, first * vad.HOP : (first + frames) * vad.HOP].astype(np.float32) / 32768
            wave, target = mixer.mix(clean), labels[stream, first : first + frames].astype(np.float32)
        row, summary = vad.features(wave)
        rows.append(row)
        summaries.append(summary)
        targets.append(target)
    return tuple(torch.from_numpy(np.stack(part)) for part in (rows, summaries, targets))


def surest(model: Detector, clip: Samples) -> float:
    """Find the probability that a recording has for at least 0.1 s."""
    row, summary = vad.features(clip[: LONGEST * vad.HOP])
    with torch.inference_mode():
        logits = model(torch.from_numpy(row)[None], torch.from_numpy(summary)[None])[0]
        return float(torch.sigmoid(logits).sort().values[-5])


def train(options: argparse.Namespace) -> Detector:
    """Train with AdamW for the given steps; the learning rate falls along a cosine."""
    recordings, _ = split(read_shard(options.shards, "noise"))
    for kind, clips in (sounds(options.sounds, "train") if options.sounds else {}).items():
        recordings.kinds[kind] = clips
    mixer, rng = Mixer(recordings, seed=3), np.random.default_rng(4)
    stored = np.load(options.work / "train.npz")
    audio, labels = stored["audio"], stored["labels"]
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    if options.start:
        model.load(options.start)
    running = 0.0
    for step in range(options.steps):
        spent = step / options.steps
        if step % HARD_EVERY == 0 and (step or options.start):
            print(f"step {step}: training noise {mixer.weigh(partial(surest, model)):.3f}", flush=True)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * spent))
        rows, summaries, targets = batch(mixer, audio, labels, rng)
        loss = F.binary_cross_entropy_with_logits(model(rows, summaries), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = 0.98 * running + 0.02 * float(loss.detach())
        if step % 100 == 99:
            print(f"step {step + 1}, {spent:.0%}: loss {running / (1 - 0.98 ** (step + 1)):.4f}", flush=True)
            save(model, options.out)
    return model


def blend(model: Detector, start: Path, share: float) -> None:
    """Move the weights back towards those of the start (Wortsman et al. 2022): what they knew is not forgotten."""
    earlier = Detector()
    earlier.load(start)
    with torch.no_grad():
        for new, old in zip(model.parameters(), earlier.parameters(), strict=True):
            new.lerp_(old, share)


def save(model: Detector, path: Path) -> None:
    """Write the weights as float16."""
    arrays = {name: value.detach().numpy().astype(np.float16) for name, value in model.weights().items()}
    np.savez_compressed(path, **arrays)


def main() -> None:
    """Train and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sounds", type=Path, help="index of further noise, JSON lines")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--kept", type=float, default=0.1, help="share of those weights in the result")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = train(options)
    if options.start:
        blend(model, options.start, options.kept)
    save(model, options.out)


if __name__ == "__main__":
    main()
