"""Builds a bundle of a cache-aware FastConformer-CTC with random weights, exported as the embedded model is.

    python -m benchmarks.random_streaming_model OUT [--width 512] [--layers 17]

The defaults are those of NeMo's large models: 109M parameters. Only the output layer has learnt anything, from one
recording: to say a word where it is loud and nothing where it is not, so that utterances begin and end as they do.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from nemo.collections.asr.models import EncDecCTCModelBPE
from numpy.typing import NDArray
from omegaconf import OmegaConf
from recipes.embedded import export, model
from recipes.embedded.weights import WeightFile

from nautilus.audio.decode import Decoder
from nautilus.engines.features import LogMel
from nautilus.types import SAMPLE_RATE, Waveform

SAMPLE = Path(__file__).with_name("sample.flac")
PAUSE = 2.0
"""Seconds of silence around the recording that the output layer learns from."""
FRAME = 1280
"""Samples of an encoder frame."""
LOUD = -50.0
"""dB of full scale."""
RIDGE = 1e-2
SURE = 20.0
"""Score by which a word or the blank is ahead of all others."""


def train_tokenizer(folder: Path) -> None:
    """Train a SentencePiece model on words of any letters."""
    import sentencepiece

    letters = np.random.default_rng(0).integers(26, size=(20_000, 5))
    text = folder / "text.txt"
    text.write_text("\n".join("".join(chr(ord("a") + one) for one in word) for word in letters))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=model.VOCABULARY, model_type="bpe",
        minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [processor.id_to_piece(number) for number in range(processor.vocab_size())]
    (folder / "vocab.txt").write_text("\n".join(pieces))


def make(tokenizer: Path, width: int, layers: int) -> Any:
    """Return the network, in NeMo."""
    settings = model.config(tokenizer)
    size = {"d_model": width, "n_layers": layers, "n_heads": max(4, width // 64)}
    settings["encoder"] |= size | {"subsampling_conv_channels": width // 2}
    settings["decoder"]["feat_in"] = width
    network = EncDecCTCModelBPE(OmegaConf.create(settings)).eval()
    model.start_subsampling(network.encoder.pre_encode)
    return network


def waveform() -> Waveform:
    """Return the recording, silence around it."""
    with SAMPLE.open("rb") as file:
        decoder = Decoder(file)
        sound = decoder.read(60.0)
        decoder.close()
    return np.pad(sound if sound is not None else [], round(PAUSE * SAMPLE_RATE))


@torch.no_grad()  # type: ignore[untyped-decorator]  # torch is untyped here
def learn_to_speak(network: Any) -> float:
    """Fit the output layer, for every look-ahead at once; the share of frames that it is right about."""
    sound = waveform()
    features = torch.from_numpy(LogMel()(sound)[None])
    heard = []
    for look_ahead in model.LOOK_AHEADS:
        network.encoder.set_default_att_context_size([model.LEFT_CONTEXT, look_ahead])
        encoded, _ = network.encoder(audio_signal=features, length=torch.tensor([features.shape[2]]))
        heard.append(encoded[0].T.double().numpy())
    network.encoder.set_default_att_context_size([model.LEFT_CONTEXT, model.LOOK_AHEADS[0]])
    wanted = np.tile(loud(sound, len(heard[0])), len(heard))
    x = np.concatenate(heard)
    centre = x.mean(axis=0)
    inner = x - centre
    weight = np.linalg.solve(inner.T @ inner + RIDGE * np.eye(x.shape[1]), inner.T @ (wanted - wanted.mean()))
    bias = wanted.mean() - centre @ weight
    output = network.decoder.decoder_layers[0]
    output.weight.zero_()
    output.bias.fill_(-2 * SURE)
    for token, sign in ((_a_word(network), SURE), (model.VOCABULARY, -SURE)):
        output.weight[token, :, 0] = torch.from_numpy(sign * weight).float()
        output.bias[token] = sign * bias
    return float(np.mean(np.sign(x @ weight + bias) == wanted))


def loud(sound: Waveform, frames: int) -> NDArray[np.float64]:
    """Return 1 for each encoder frame in which it is loud, -1 for the others."""
    padded = np.pad(sound, (0, max(0, frames * FRAME - len(sound))))[: frames * FRAME]
    power = np.mean(padded.reshape(frames, FRAME).astype(np.float64) ** 2, axis=1)
    return np.where(10 * np.log10(power + 1e-12) > LOUD, 1.0, -1.0)


def _a_word(network: Any) -> int:
    """Return a piece that begins a word."""
    pieces = network.tokenizer.tokenizer
    return next(
        n for n in range(model.VOCABULARY) if len(pieces.id_to_piece(n)) > 1 and pieces.id_to_piece(n)[0] == "▁"
    )


def write(out: Path, width: int, layers: int) -> tuple[int, float]:
    """Write the bundle; its number of parameters, and how often it is right about silence."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        network = make(_tokenizer(Path(scratch)), width, layers)
        right = learn_to_speak(network)
        weights = WeightFile(folder / "weights.bin")
        for name in ("offline", "streaming"):
            graph = export.trace(network, name, folder)
            weights.take(graph)
            onnx.save(graph, folder / f"{name}.onnx")
        weights.save()
        pieces = [network.tokenizer.tokenizer.id_to_piece(number) for number in range(model.VOCABULARY)]
        (folder / "tokens.txt").write_text("\n".join([*pieces, "<blk>"]) + "\n", encoding="utf-8")
        about = export.describe(network, out.name)
        export.save(about, folder)
        folder.rename(out)
    return int(about["parameters"]), right


def _tokenizer(scratch: Path) -> Path:
    folder = scratch / "tokenizer"
    folder.mkdir()
    train_tokenizer(folder)
    return folder


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=17)
    arguments = parser.parse_args()
    parameters, right = write(arguments.out, arguments.width, arguments.layers)
    print(json.dumps({"bundle": str(arguments.out), "parameters": parameters, "right about silence": round(right, 3)}))


if __name__ == "__main__":
    main()
