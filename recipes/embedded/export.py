"""Export a trained model as a bundle.

    python -m recipes.embedded.export --work WORK --nemo RUN/best.nemo --out FOLDER [--name NAME]

The bundle: `nautilus.json`, `offline.onnx`, `streaming.onnx`, `weights.bin` (of both), `tokens.txt`,
`model.nemo` and `MODEL_CARD.md`. It is checked against NeMo before it appears at FOLDER; word error
rates per set are measured on the bundle itself.
"""

import argparse
import hashlib
import json
import shutil
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from nemo.collections.asr.models import EncDecCTCModelBPE
from omegaconf import open_dict
from recipes.embedded import archive, evaluate, graphs, verify
from recipes.embedded.bundle import Bundle
from recipes.embedded.corpus import read_shard, shard_names
from recipes.embedded.model import LEFT_CONTEXT, LOOK_AHEADS, VOCABULARY
from recipes.embedded.weights import WeightFile

LICENCE = "CC-BY-4.0 (see MODEL_CARD.md for the training data's licences)"
VOICES = {
    "flite": "flite and its voices, BSD-like",
    "espeak": "espeak-ng, GPL 3 (the program; its output is free)",
    "festival": "festival and its HTS voice, BSD-like",
    "joe": "Piper, voice trained on CC0 data",
    "kokoro": "Kokoro-82M, Apache-2.0",
}
"""Where the synthetic voices come from."""
CACHES = ["cache_last_channel", "cache_last_time", "cache_last_channel_len"]
INPUTS = {"offline": ["audio_signal", "length"], "streaming": ["audio_signal", "length", *CACHES]}
OUTPUTS = {
    "offline": ["logprobs", "encoded_lengths"],
    "streaming": [
        "logprobs",
        "encoded_lengths",
        *(f"{name}_next" for name in CACHES[:2]),
        "cache_last_channel_next_len",
    ],
}
"""NeMo's own names, so that a server needs no special case."""


def cache_shapes(model: Any) -> tuple[list[int], list[int]]:  # NeMo is untyped
    """Shapes of the two caches of one stream."""
    layers, width = len(model.encoder.layers), model.encoder.d_model
    heads = model.encoder.layers[0].self_attn.h
    return [layers, 2 * heads, LEFT_CONTEXT, width // heads], [layers, width, model.encoder.conv_context_size[0]]


def example(model: Any, name: str) -> tuple[torch.Tensor, ...]:  # NeMo is untyped
    """Make inputs to trace a graph with."""
    if name == "offline":
        return torch.randn(2, 80, 301), torch.tensor([301, 250])
    channel, past = cache_shapes(model)
    frames = graphs.OVERLAP + 8 * 7
    lengths = torch.tensor([frames, frames])
    return torch.randn(2, 80, frames), lengths, torch.zeros(2, *channel), torch.zeros(2, *past), torch.tensor([3, 70])


def trace(model: Any, name: str, folder: Path) -> onnx.ModelProto:  # NeMo is untyped
    """One of the graphs, batch and time free."""
    network = (graphs.Offline if name == "offline" else graphs.Streaming)(model).eval()
    axes: dict[str, dict[int, str]] = {key: {0: "batch"} for key in INPUTS[name] + OUTPUTS[name]}
    axes["audio_signal"][2] = "frames"
    axes["logprobs"][1] = "encoded_frames"
    path = folder / "traced.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns about every shape; `verify` proves the result
        torch.onnx.export(
            network, example(model, name), str(path), input_names=INPUTS[name], output_names=OUTPUTS[name],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
    graph = onnx.load(path)
    path.unlink()
    return graph


def describe(model: Any, name: str) -> dict[str, Any]:  # NeMo is untyped
    """`nautilus.json` without what is only known later."""
    channel, past = cache_shapes(model)
    features = {
        "kind": "nemo-log-mel", "n_mels": 80, "n_fft": 512, "window": 400, "hop": 160,
        "preemphasis": 0.97, "log_guard": 2.0**-24, "normalize": "none",
    }  # fmt: skip
    streaming = {
        "file": "streaming.onnx", "look_aheads": list(LOOK_AHEADS), "left_context": LEFT_CONTEXT,
        "pre_encode_cache": graphs.OVERLAP, "drop_extra_pre_encoded": graphs.DROP,
        "first_padding": graphs.FIRST_PADDING, "cache_last_channel": channel, "cache_last_time": past,
    }  # fmt: skip
    return {
        "format": 1, "name": name, "family": "ctc", "languages": ["en"], "sample_rate": 16_000,
        "features": features, "subsampling": 8, "tokens": "tokens.txt", "blank": VOCABULARY, "max_seconds": 30.0,
        "utterances": True,  # all that it was trained on: windows end at every pause
        "packed": True,  # `graphs.Offline` has no rows for padding
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "graphs": {"offline": "offline.onnx", "streaming": streaming},
    }  # fmt: skip


def write(model: Any, folder: Path, name: str) -> dict[str, Any]:  # NeMo is untyped
    """All files of the bundle but the description's final form."""
    weights = WeightFile(folder / "weights.bin")
    for graph_name in ("offline", "streaming"):
        graph = trace(model, graph_name, folder)
        weights.take(graph)
        onnx.save(graph, folder / f"{graph_name}.onnx")
    weights.save()
    pieces = [model.tokenizer.tokenizer.id_to_piece(i) for i in range(VOCABULARY)]
    (folder / "tokens.txt").write_text("\n".join([*pieces, "<blk>"]) + "\n", encoding="utf-8")
    with open_dict(model.cfg):
        model.cfg.tokenizer.dir = "tokenizer"  # it is inside the file; where it was made is nobody's business
    model.save_to(str(folder / "saved.nemo"))
    archive.publish(folder / "saved.nemo", folder / "model.nemo")
    (folder / "saved.nemo").unlink()
    shutil.copyfile(Path(__file__).with_name("MODEL_CARD.md"), folder / "MODEL_CARD.md")
    description = describe(model, name)
    save(description, folder)
    return description


def save(description: dict[str, Any], folder: Path) -> None:
    """Write `nautilus.json`."""
    (folder / "nautilus.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def speed(folder: Path, batch: int, seconds: int = 10) -> float:
    """Audio seconds per second of the offline graph on one thread (the best of ten runs)."""
    bundle = Bundle(folder)
    features = np.random.default_rng(0).normal(-11.5, 3.4, (batch, 80, seconds * 100)).astype(np.float32)
    lengths = np.full(batch, seconds * 100)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        bundle.offline(features, lengths)
        times.append(time.perf_counter() - start)
    return batch * seconds / min(times)


def synthetic(work: Path) -> str:
    """List the synthetic speech that training could draw from: rows of the card's table."""
    hours: Counter[str] = Counter()
    for name in shard_names(work, "synth-"):
        hours[name.split("-")[1]] += sum(clip.seconds for clip in read_shard(work, name).clips) / 3600
    return "\n".join(
        f"| synthetic speech of {name}, {amount:.1f} h | {VOICES[name]} |" for name, amount in hours.items()
    )


def streaming(bundle: Bundle, work: Path) -> str:
    """Word error rates of stepped streams: rows of the card's table."""
    rows = []
    for look_ahead in LOOK_AHEADS:
        wer = evaluate.word_error_rates(bundle.reader(look_ahead), work, bundle.pieces, limit=150)
        rows.append(" | ".join(str(value) for value in (look_ahead, *wer.values())))
    return "\n".join(f"| {row} |" for row in rows)


def finish(description: dict[str, Any], folder: Path, work: Path) -> None:
    """Measure the bundle, complete its card and description."""
    bundle = Bundle(folder, threads=2)
    wer = evaluate.word_error_rates(bundle.reader(), work, bundle.pieces)
    card = folder / "MODEL_CARD.md"
    table = "\n".join(f"| {name} | {value} |" for name, value in wer.items())
    text = card.read_text(encoding="utf-8").replace("{wer}", table).replace("{synthetic}", synthetic(work))
    text = text.replace("{streaming}", streaming(bundle, work))
    card.write_text(text, encoding="utf-8")
    files = sorted(path for path in folder.iterdir() if path.name != "nautilus.json")
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    save(description | {"sha256": digests, "licence": LICENCE, "wer": wer}, folder)
    print(json.dumps({"wer": wer, "bytes": sum(path.stat().st_size for path in files)}))


def deliver(folder: Path, out: Path) -> None:
    """Replace the bundle at `out`, file by file, the description last."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
        part = out / f"{path.name}.part"
        shutil.copyfile(path, part)
        part.replace(out / path.name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nemo", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="nautilus-en-4m")
    options = parser.parse_args()
    model = EncDecCTCModelBPE.restore_from(str(options.nemo), map_location="cpu").eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        description = write(model, folder, options.name)
        found = verify.differences(model, folder, options.work)
        print(json.dumps(found))
        if max(found.values()) > verify.TOLERANCE:
            raise SystemExit("the bundle does not compute what the model computes")
        finish(description, folder, options.work)
        print(json.dumps({f"speed, batch {batch}": round(speed(folder, batch)) for batch in (1, 8)}))
        deliver(folder, options.out)


if __name__ == "__main__":
    main()
