"""Train the transducers and the attention model that the tests use: some minutes on a laptop.

    python -m recipes.transducer.train --speech FOLDER --kind rnnt

The encoder is the embedded model's and stays as it is, so every recording passes through it once.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jiwer
import torch
from recipes.transducer.attention import PARTS as ATTENTION_PARTS
from recipes.transducer.attention import attention_loss, create_attention
from recipes.transducer.attention import transcripts as attention_transcripts
from recipes.transducer.loss import tdt_loss
from recipes.transducer.model import DURATIONS, PARTS, create, save
from torch import Tensor

from nautilus.audio.decode import Decoder

SETS = ("an4", "fsdd")
BATCH = 32

Item: TypeAlias = tuple[Tensor, str]
"""An encoding, shape (frames, width), and what is said."""


def utterances(speech: Path, name: str) -> list[tuple[Path, str]]:
    """Return the recordings and texts of a manifest that are alike what the tests hear."""
    rows = [json.loads(line) for line in (speech / f"{name}.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["set"] in SETS and row.get("split") != "test"]
    return [(speech / row["audio_filepath"], row["text"]) for row in rows]


@torch.inference_mode()
def encode(model: Any, items: list[tuple[Path, str]]) -> list[Item]:
    """Return each recording's encoding, shape (frames, width), and its text."""
    encoded = []
    for path, text in items:
        with path.open("rb") as file:
            decoder = Decoder(file)
            waveform = decoder.read(60.0)
            decoder.close()
        if waveform is None:
            continue
        signal, length = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
        features, length = model.preprocessor(input_signal=signal, length=length)
        output, frames = model.encoder(audio_signal=features, length=length)
        encoded.append((output[0, :, : int(frames)].T, text))
    return encoded


def batches(data: list[Item], seed: int) -> list[list[Item]]:
    """Return batches of recordings of similar length, in an order that depends on the seed."""
    ranked = sorted(data, key=lambda item: len(item[0]))
    parts = [ranked[first : first + BATCH] for first in range(0, len(ranked), BATCH)]
    order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed))
    return [parts[number] for number in order]


def transducer_loss(model: Any, batch: list[Item]) -> Tensor:
    """Return the loss of a batch."""
    encoding = torch.nn.utils.rnn.pad_sequence([item[0] for item in batch], batch_first=True).transpose(1, 2)
    frames = torch.tensor([len(item[0]) for item in batch])
    tokens = [torch.tensor(model.tokenizer.text_to_ids(text)) for _, text in batch]
    texts = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths = torch.tensor([len(one) for one in tokens])
    predicted, lengths, _ = model.decoder(targets=texts, target_length=lengths)
    joined = model.joint(encoder_outputs=encoding, decoder_outputs=predicted)
    if model.cfg.model_defaults.num_tdt_durations:
        return tdt_loss(joined, texts, frames, lengths, DURATIONS)
    loss: Tensor = model.loss(log_probs=joined, targets=texts, input_lengths=frames, target_lengths=lengths)
    return loss


@torch.inference_mode()
def transducer_transcripts(model: Any, data: list[Item]) -> list[str]:
    """Say what the model hears in encodings."""
    said = []
    for encoding, _ in data:
        frames = torch.tensor([len(encoding)])
        (result,) = model.decoding.rnnt_decoder_predictions_tensor(encoding.T[None], frames, return_hypotheses=True)
        said.append(result.text)
    return said


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind of model is made and trained."""

    create: Callable[[], Any]
    parts: tuple[str, ...]
    """What is trained."""
    loss: Callable[[Any, list[Item]], Tensor]
    transcripts: Callable[[Any, list[Item]], list[str]]
    rate: float
    """The highest learning rate."""
    epochs: int


KINDS = {
    "rnnt": Kind(lambda: create(tdt=False), PARTS, transducer_loss, transducer_transcripts, 3e-3, 20),
    "tdt": Kind(lambda: create(tdt=True), PARTS, transducer_loss, transducer_transcripts, 3e-3, 15),
    "aed": Kind(create_attention, ATTENTION_PARTS, attention_loss, attention_transcripts, 2e-3, 60),
}


def word_error_rate(kind: Kind, model: Any, data: list[Item]) -> float:
    """Return the word error rate in percent."""
    model.eval()
    return 100 * float(jiwer.wer([text for _, text in data], [said.strip() for said in kind.transcripts(model, data)]))


def train(kind: Kind, model: Any, data: list[Item], dev: list[Item], epochs: int) -> None:
    """Train, and say how it goes."""
    parameters = [parameter for part in kind.parts for parameter in getattr(model, part).parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=kind.rate, weight_decay=1e-3)
    steps = epochs * len(batches(data, 0))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=kind.rate, total_steps=steps, pct_start=0.1)
    for epoch in range(epochs):
        started, losses = time.process_time(), []
        for part in kind.parts:
            getattr(model, part).train()
        for batch in batches(data, epoch):
            loss = kind.loss(model, batch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        last = epoch == epochs - 1
        rate = f", WER {word_error_rate(kind, model, dev):.1f} %" if epoch % 5 == 4 or last else ""
        seconds = time.process_time() - started
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}, {seconds:.0f} s{rate}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, default="rnnt")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, help="default: tests/fixtures/KIND.npz")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    kind = KINDS[arguments.kind]
    model = kind.create()
    digits = utterances(arguments.speech, "digits_en")
    data = encode(model, utterances(arguments.speech, "train_en") + digits[::4])
    dev = encode(model, utterances(arguments.speech, "dev_en"))
    print(f"{len(data)} recordings to train on, {len(dev)} to test on", flush=True)
    train(kind, model, [(one.clone(), text) for one, text in data], dev, arguments.epochs or kind.epochs)
    out = arguments.out or Path("tests") / "fixtures" / f"{arguments.kind}.npz"
    save(model, out, kind.parts)
    print(f"{out}: {time.process_time() / 60:.0f} minutes of processor time")


if __name__ == "__main__":
    main()
