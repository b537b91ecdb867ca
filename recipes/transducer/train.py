"""Train the transducers that the tests use: some minutes on a laptop.

    python -m recipes.transducer.train --speech FOLDER --kind rnnt --out tests/fixtures/rnnt.npz

The encoder is the embedded model's and stays as it is, so every recording passes through it once.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jiwer
import torch
from recipes.transducer.loss import tdt_loss
from recipes.transducer.model import DURATIONS, create, save

from nautilus.audio.decode import Decoder

SETS = ("an4", "fsdd")
BATCH = 32


def utterances(speech: Path, name: str) -> list[tuple[Path, str]]:
    """Return the recordings and texts of a manifest that are alike what the tests hear."""
    rows = [json.loads(line) for line in (speech / f"{name}.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["set"] in SETS and row.get("split") != "test"]
    return [(speech / row["audio_filepath"], row["text"]) for row in rows]


@torch.inference_mode()
def encode(model: Any, items: list[tuple[Path, str]]) -> list[tuple[torch.Tensor, list[int], str]]:
    """Return each recording's encoding, shape (frames, width), its sub-words and its text."""
    encoded = []
    for path, text in items:
        with path.open("rb") as file:
            decoder = Decoder(file)
            waveform = decoder.read(60.0)
            decoder.close()
        if waveform is None:
            continue
        signal, length = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
        output, frames = model(input_signal=signal, input_signal_length=length)
        encoded.append((output[0, :, : int(frames)].T.clone(), model.tokenizer.text_to_ids(text), text))
    return encoded


def batches(data: list[Any], seed: int) -> list[list[Any]]:
    """Return batches of recordings of similar length, in an order that depends on the seed."""
    ranked = sorted(data, key=lambda item: len(item[0]))
    parts = [ranked[first : first + BATCH] for first in range(0, len(ranked), BATCH)]
    order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(seed))
    return [parts[number] for number in order]


def step(model: Any, batch: list[Any]) -> torch.Tensor:
    """Return the loss of a batch."""
    encoding = torch.nn.utils.rnn.pad_sequence([item[0] for item in batch], batch_first=True).transpose(1, 2)
    frames = torch.tensor([len(item[0]) for item in batch])
    texts = torch.nn.utils.rnn.pad_sequence([torch.tensor(item[1]) for item in batch], batch_first=True)
    lengths = torch.tensor([len(item[1]) for item in batch])
    predicted, lengths, _ = model.decoder(targets=texts, target_length=lengths)
    joined = model.joint(encoder_outputs=encoding, decoder_outputs=predicted)
    if model.cfg.model_defaults.num_tdt_durations:
        return tdt_loss(joined, texts, frames, lengths, DURATIONS)
    loss: torch.Tensor = model.loss(log_probs=joined, targets=texts, input_lengths=frames, target_lengths=lengths)
    return loss


@torch.inference_mode()
def word_error_rate(model: Any, data: list[Any]) -> float:
    """Return the word error rate in percent."""
    model.eval()
    said = []
    for encoding, _, _ in data:
        frames = torch.tensor([len(encoding)])
        (result,) = model.decoding.rnnt_decoder_predictions_tensor(encoding.T[None], frames, return_hypotheses=True)
        said.append(result.text)
    return 100 * float(jiwer.wer([item[2] for item in data], said))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--kind", choices=("rnnt", "tdt"), default="rnnt")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = create(tdt=arguments.kind == "tdt")
    digits = utterances(arguments.speech, "digits_en")
    data = encode(model, utterances(arguments.speech, "train_en") + digits[::4])
    dev = encode(model, utterances(arguments.speech, "dev_en"))
    print(f"{len(data)} recordings to train on, {len(dev)} to test on", flush=True)
    parameters = [*model.decoder.parameters(), *model.joint.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=3e-3, total_steps=arguments.epochs * len(batches(data, 0)), pct_start=0.1
    )
    for epoch in range(arguments.epochs):
        started, total = time.perf_counter(), 0.0
        model.decoder.train()
        model.joint.train()
        for batch in batches(data, epoch):
            loss = step(model, batch)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        rate = f", WER {word_error_rate(model, dev):.1f} %" if epoch % 5 == 4 else ""
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: loss {total / len(batches(data, 0)):.3f}, {seconds:.0f} s{rate}", flush=True)
    save(model, arguments.out)


if __name__ == "__main__":
    main()
