"""Train the model.

    python -m recipes.embedded.train --work WORK --run NAME [--resume] [--steps N] [--decay-steps N]
    python -m recipes.embedded.train --work WORK --run NAME --weights-from MODEL.nemo

The learning rate warms up and stays. A run can be stopped and resumed at any time; `--decay-steps N`
finishes it: from the checkpoint on, the rate falls to zero over N steps, then training ends.
With `--ranks 2`, two processes train together, on a core each; every step hears a batch of each.

    guided (cross-entropy fades out)  ->  CTC alone  ->  CTC, augmented  ->  decay
    until      --guided-steps             --augment-from                     N more steps

Everything is logged as JSON lines to `WORK/runs/NAME/log.jsonl`.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipes.embedded import batches, scoring, unspoken
from recipes.embedded.augment import Augmenter, mask_features
from recipes.embedded.batches import Batch, Mix
from recipes.embedded.corpus import read_shard, shard_names
from recipes.embedded.guidance import UNGUIDED, entropy
from recipes.embedded.model import VOCABULARY, build, set_dropout, set_look_aheads, train_tokenizer, unpack
from recipes.embedded.parallel import Team, launch
from torch.nn import functional

LONG_LOOK_AHEAD = [1.0, 0.0, 0.0, 0.0]
ALL_LOOK_AHEADS = [0.55, 0.2, 0.15, 0.1]


@dataclass(frozen=True, slots=True)
class Plan:
    """When what happens, in steps, and how large the steps are."""

    steps: int
    decay_steps: int
    guided_steps: int
    clean_steps: int
    """Only the clean sets until here (checked at each epoch's start)."""
    augment_from: int
    learning_rate: float
    batch_seconds: float
    synthetic_share: float
    unspoken_share: float
    dropout: float
    seed: int

    def rate(self, step: int) -> float:
        """Learning rate at a step: warm-up over 100, constant, straight down to zero."""
        left = (self.steps - step) / self.decay_steps if self.decay_steps else 1.0
        return self.learning_rate * min(1.0, (step + 1) / 100, max(left, 0.0))

    def guidance(self, step: int) -> float:
        """Weight of the frame-wise cross-entropy, 1 to 0."""
        return 1.0 - step / self.guided_steps if step < self.guided_steps else 0.0

    def window(self, step: int) -> float:
        """Say how many steps the averaged weights look back: a tenth of those done, fewer while the rate falls."""
        falling = step > self.steps - self.decay_steps
        return min(step, self.decay_steps if falling else 20_000) / 10

    def mix(self, step: int) -> Mix:
        """Say what an epoch that starts now is made of."""
        return Mix(
            clean_only=step < self.clean_steps,
            synthetic_share=self.synthetic_share,
            unspoken_share=self.unspoken_share,
        )


class Trainer:
    """Owns model, averaged model, optimizer and the run's folder."""

    def __init__(self, work: Path, run: str, plan: Plan, team: Team) -> None:
        self.work, self.plan, self.team = work, plan, team
        self.folder = work / "runs" / run
        self.folder.mkdir(parents=True, exist_ok=True)
        tokenizer = work / f"tokenizer-{VOCABULARY}"
        train_tokenizer(work, tokenizer)
        random.seed(plan.seed + team.rank)
        torch.manual_seed(plan.seed)
        self.model = build(tokenizer)
        set_dropout(self.model, plan.dropout)
        self.average = build(tokenizer).eval()
        self.average.load_state_dict(self.model.state_dict())
        self.blank = self.model.decoder.num_classes_with_blank - 1
        self.pieces = list(self.model.tokenizer.vocab)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.step = 0
        self.best = math.inf
        self.development = scoring.development_sets(work)
        self.unspoken = [read_shard(work, name) for name in shard_names(work, f"{unspoken.SET}-test")]

    def __repr__(self) -> str:
        return f"<Trainer {self.folder.name} step={self.step} best={self.best:.1f}>"

    def log(self, **values: object) -> None:
        """One line to the log and to the screen."""
        if not self.team.leads:
            return
        line = json.dumps({"step": self.step, **values})
        with (self.folder / "log.jsonl").open("a") as out:
            out.write(line + "\n")
        print(line, flush=True)

    def save(self, name: str) -> None:
        """Checkpoint of everything needed to go on."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        part = self.folder / f"{name}.part"
        torch.save(state, part)
        part.replace(self.folder / f"{name}.pt")

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state: dict[str, Any] = torch.load(path, map_location="cpu")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["fused"] = True
        self.step, self.best = state["step"], state["best"]

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Begin with all weights of a finished model."""
        for model in (self.model, self.average):
            model.load_state_dict(weights)

    def load_encoder(self, path: Path) -> None:
        """Begin with the averaged encoder of another run, whose sub-words may be others."""
        state: dict[str, Any] = torch.load(path, map_location="cpu")
        encoder = {name: value for name, value in state["average"].items() if name.startswith("encoder.")}
        for model in (self.model, self.average):
            model.load_state_dict(encoder, strict=False)

    def stream(self) -> Iterator[Batch]:
        """Batches without end; each epoch looks anew at the shards."""
        rng = np.random.default_rng([self.plan.seed, self.step, self.team.rank])
        augmenter = Augmenter(self.work, self.plan.seed + self.step + 500_000 * self.team.rank)
        made = self.step
        while True:
            picks = batches.epoch(self.work, self.plan.mix(made), rng)
            for picked in batches.group(picks, self.plan.batch_seconds, rng):
                treat = augmenter if made >= self.plan.augment_from else None
                yield batches.collate(picked, self.model.tokenizer, self.blank, treat)
                made += 1

    def losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """CTC per token and frame-wise cross-entropy per guided frame (the latter 0 without guidance)."""
        with torch.no_grad():
            features, lengths = self.model.preprocessor(input_signal=batch.waves, length=batch.wave_lengths)
            if self.step >= self.plan.augment_from:
                features = mask_features(features, lengths)
        encoded, frames = self.model.encoder(audio_signal=features, length=lengths)
        logprobs = self.model.decoder(encoder_output=encoded)
        ctc = functional.ctc_loss(
            logprobs.transpose(0, 1), batch.targets, frames, batch.target_lengths,
            blank=self.blank, reduction="sum", zero_infinity=True,
        )  # fmt: skip
        guided = logprobs.new_zeros(())
        if self.plan.guidance(self.step) > 0:
            size = min(logprobs.shape[1], batch.labels.shape[1])
            labels = batch.labels[:, :size].flatten()
            guided = functional.nll_loss(
                logprobs[:, :size].flatten(0, 1), labels, ignore_index=UNGUIDED, reduction="sum"
            ) / (labels != UNGUIDED).sum().clamp(min=1)
        return ctc / max(1, batch.targets.numel()), guided

    def update(self, batch: Batch) -> tuple[float, float]:
        """One step of the optimizer; returns both losses."""
        chances = LONG_LOOK_AHEAD if self.step < self.plan.guided_steps else ALL_LOOK_AHEADS
        set_look_aheads(self.model, chances)
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        ctc, guided = self.losses(batch)
        weight = self.plan.guidance(self.step)
        loss = (1 - weight) * ctc + weight * guided
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.average_gradients(self.model)
        if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)):
            self.optimizer.step()
        self.step += 1
        self.follow()
        return float(ctc), float(guided)

    @torch.no_grad()
    def follow(self) -> None:
        """Let the averaged weights follow the trained ones."""
        keep = 1 - 1 / (1 + self.plan.window(self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)

    def score(self) -> None:
        """Word error rates of the averaged weights; keeps the best checkpoint."""
        reader = scoring.nemo_reader(self.average)
        wer = {
            name: round(scoring.word_error_rate(reader, shard, self.pieces, limit=150), 1)
            for name, shard in self.development.items()
        }
        mean = sum(wer.values()) / len(wer)
        made = sum(unspoken.words_made(reader, shard, self.pieces).total() for shard in self.unspoken)
        self.log(wer=wer, mean=round(mean, 1), words_of_nothing=made)
        better, self.best = mean < self.best, min(mean, self.best)
        self.save("last")
        if better:
            self.save("best")
            self.average.save_to(str(self.folder / "best.nemo"))

    def train(self, score_every: int, log_every: int = 25) -> None:
        """Until the plan's last step."""
        self.team.agree(self.model)
        self.model.train()
        heard, sums, since = 0.0, np.zeros(2), time.monotonic()
        stream = batches.ahead(self.stream())
        if self.step == 0:
            first = next(stream)
            self.log(label_entropy=round(entropy(first.labels.numpy()), 3), parameters=self.model.num_weights)
        for batch in stream:
            sums += self.update(batch)
            heard += batch.seconds
            if self.step % log_every == 0:
                ctc, guided = (sums / log_every).round(3)
                speed = round(self.team.size * heard / (time.monotonic() - since), 1)
                self.log(ctc=ctc, ce=guided, speed=speed, lr=self.plan.rate(self.step - 1))
                heard, sums, since = 0.0, np.zeros(2), time.monotonic()
            if self.team.leads and (self.step % score_every == 0 or self.step >= self.plan.steps):
                self.score()
                since = time.monotonic()
            if self.step >= self.plan.steps:
                break
        if self.team.leads:
            self.save("last")
            self.average.save_to(str(self.folder / "last.nemo"))


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", default="first")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument("--from-checkpoint", type=Path, help="go on from this checkpoint")
    parser.add_argument("--encoder-from", type=Path, help="begin with the encoder of this checkpoint")
    parser.add_argument("--weights-from", type=Path, help="begin with the weights and sub-words of this .nemo file")
    parser.add_argument("--steps", type=int, default=1_000_000, help="the last step, where nothing decays")
    parser.add_argument("--decay-steps", type=int, default=0)
    parser.add_argument("--guided-steps", type=int, default=1000)
    parser.add_argument("--clean-steps", type=int, default=600)
    parser.add_argument("--augment-from", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch-seconds", type=float, default=30.0, help="per rank")
    parser.add_argument("--synthetic-share", type=float, default=0.5)
    parser.add_argument("--unspoken-share", type=float, default=0.0, help="of the clips; wants the shard `unspoken`")
    parser.add_argument(
        "--dropout", type=float, default=0.0, help="0.1 once it reads training speech far better than new"
    )
    parser.add_argument("--score-every", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1, help="per rank; more than one hardly helps")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train together")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def run(options: argparse.Namespace, team: Team) -> None:
    """Train as one member of a team."""
    torch.set_num_threads(options.threads)
    names = ("steps", "decay_steps", "guided_steps", "clean_steps", "augment_from",
             "learning_rate", "batch_seconds", "synthetic_share", "unspoken_share", "dropout", "seed")  # fmt: skip
    resumed = options.work / "runs" / options.run / "last.pt" if options.resume else None
    checkpoint = options.from_checkpoint or resumed
    if options.decay_steps:
        begun = torch.load(checkpoint, map_location="cpu")["step"] if checkpoint else 0
        options.steps = begun + options.decay_steps
    begun_with = (
        unpack(options.weights_from, options.work / f"tokenizer-{VOCABULARY}") if options.weights_from else None
    )
    trainer = Trainer(options.work, options.run, Plan(**{name: getattr(options, name) for name in names}), team)
    if checkpoint:
        trainer.load(checkpoint)
    elif begun_with:
        trainer.load_weights(begun_with)
    elif options.encoder_from:
        trainer.load_encoder(options.encoder_from)
    trainer.train(options.score_every)


def main() -> None:
    """Command line."""
    options = arguments()
    if options.weights_from:
        unpack(options.weights_from, options.work / f"tokenizer-{VOCABULARY}")  # once, before many look for it
    launch(partial(run, options), options.ranks)


if __name__ == "__main__":
    main()
