"""The network: a small streaming FastConformer-CTC, and how its weights begin.

Two things decide whether it learns from a few hours at all (README, "What was measured"):
the first convolutions start with a variance that keeps the signal alive, and the mean and deviation
of the (never normalised) log-mel features are folded into the first of them.
"""

import io
import math
import tarfile
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from nemo.collections.asr.models import EncDecCTCModelBPE
from omegaconf import OmegaConf
from recipes.embedded.corpus import read_shard, shard_names
from torch import nn

FEATURE_MEAN = -11.55
"""Mean of the log-mel features over the training speech."""
FEATURE_DEVIATION = 3.44
"""Their standard deviation."""
VOCABULARY = 512
"""Sub-words; the blank comes after them. With 128, quick readers say 0.7 of them per frame: too crowded for CTC."""
LOOK_AHEADS = (13, 6, 1, 0)
"""Encoder frames (80 ms each) that a chunk sees beyond its first one."""
LEFT_CONTEXT = 70
"""Encoder frames that attention sees to the left of a chunk."""


def train_tokenizer(work: Path, folder: Path) -> None:
    """Train the SentencePiece unigram model in the form that NeMo expects, on what is said in training."""
    if (folder / "vocab.txt").exists():
        return
    shards = ["real", *shard_names(work, "synth-")]
    texts = sorted({clip.text for name in shards for clip in read_shard(work, name).clips})
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="unigram",
        character_coverage=1.0,
        normalization_rule_name="identity",
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    pieces = (folder / "tokenizer.vocab").read_text(encoding="utf-8").splitlines()
    names = [line.split("\t")[0] for line in pieces if not line.startswith("<")]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def unpack(nemo: Path, tokenizer: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a `.nemo` file, and lay its sub-words down where `build` looks for them."""
    tokenizer.mkdir(parents=True, exist_ok=True)
    with tarfile.open(nemo) as archive:
        read = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive if member.isfile()}
        files = {name: file.read() for name, file in read.items() if file}
    for name, data in files.items():
        path = tokenizer / name.rsplit("_", 1)[-1]
        wanted = path.name in ("tokenizer.model", "tokenizer.vocab", "vocab.txt")
        if wanted and not (path.exists() and path.read_bytes() == data):
            path.write_bytes(data)
    weights: dict[str, torch.Tensor] = torch.load(io.BytesIO(files["model_weights.ckpt"]), map_location="cpu")
    return weights


def config(tokenizer: Path) -> dict[str, Any]:
    """NeMo's configuration of the model."""
    preprocessor = {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16_000,
        "normalize": "NA",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": 80,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 0.0,
        "pad_to": 0,
    }
    encoder = {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "n_layers": 10,
        "d_model": 128,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 24,
        "causal_downsampling": True,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "n_heads": 4,
        "att_context_size": [[LEFT_CONTEXT, look_ahead] for look_ahead in LOOK_AHEADS],
        "att_context_probs": [0.55, 0.2, 0.15, 0.1],
        "att_context_style": "chunked_limited",
        "xscaling": False,
        "untie_biases": True,
        "pos_emb_max_len": 1000,
        "conv_kernel_size": 9,
        "conv_norm_type": "layer_norm",
        "conv_context_size": "causal",
        "dropout": 0.0,
        "dropout_pre_encoder": 0.0,
        "dropout_emb": 0.0,
        "dropout_att": 0.0,
        "sync_max_audio_length": False,
    }
    return {
        "sample_rate": 16_000,
        "log_prediction": False,
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "preprocessor": preprocessor,
        "encoder": encoder,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": 128,
            "num_classes": -1,
            "vocabulary": [],
        },
    }


def build(tokenizer: Path) -> EncDecCTCModelBPE:
    """Make a new model with the weights to start from."""
    model = EncDecCTCModelBPE(OmegaConf.create(config(tokenizer)))
    start_subsampling(model.encoder.pre_encode)
    return model


@torch.no_grad()
def start_subsampling(pre_encode: nn.Module) -> None:
    """Draw normal weights of variance 2/fan-in, zero the biases, fold the features' mean and deviation in."""
    for layer in pre_encode.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_in))
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, math.sqrt(1.0 / layer.in_features))
            nn.init.zeros_(layer.bias)
    first = pre_encode.conv[0]
    first.weight /= FEATURE_DEVIATION
    first.bias.copy_(-FEATURE_MEAN * first.weight.sum(dim=(1, 2, 3)))


def set_look_aheads(model: EncDecCTCModelBPE, probabilities: list[float]) -> None:
    """How often training draws each of `LOOK_AHEADS`."""
    model.encoder.att_context_probs = probabilities


def set_dropout(model: EncDecCTCModelBPE, share: float) -> None:
    """How much of its activations the encoder forgets while it trains."""
    for module in model.encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
