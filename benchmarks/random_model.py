"""Builds a NeMo FastConformer-CTC with random weights: speed does not depend on what a model has learnt.

    python benchmarks/random_model.py OUT.nemo [--width 512] [--layers 17]

The defaults are those of stt_en_fastconformer_ctc_large: 109M parameters.
"""

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

PIECES = 128


def config(tokenizer: Path, width: int, layers: int) -> dict[str, Any]:
    """Return the configuration of a FastConformer-CTC, as in NeMo's examples."""
    return {
        "sample_rate": 16_000,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16_000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 80,
            "n_fft": 512,
            "dither": 0.0,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": 80,
            "n_layers": layers,
            "d_model": width,
            "n_heads": max(4, width // 64),
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": width // 2,
            "ff_expansion_factor": 4,
            "conv_kernel_size": 9,
            "self_attention_model": "rel_pos",
            "dropout": 0.0,
            "dropout_emb": 0.0,
            "dropout_att": 0.0,
            "dropout_pre_encoder": 0.0,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": width,
            "num_classes": PIECES,
            "vocabulary": [],
        },
        "tokenizer": {"dir": str(tokenizer), "type": "bpe"},
        "decoding": {"strategy": "greedy_batch"},
        "optim": None,
    }


def train_tokenizer(folder: Path) -> None:
    """Train a SentencePiece model on this file's own text: any will do."""
    import sentencepiece

    text = folder / "text.txt"
    text.write_text("\n".join(f"{a}{b} {b}{a} " * 4 for a in "abcdefghijklmnop" for b in "qrstuvwxyz"))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=PIECES, minloglevel=2, model_type="bpe"
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = [processor.id_to_piece(number) for number in range(processor.vocab_size())]
    (folder / "vocab.txt").write_text("\n".join(pieces))


def build(out: Path, width: int = 512, layers: int = 17) -> int:
    """Write the model to `out` and return its number of parameters."""
    import torch
    from nemo.collections.asr.models import EncDecCTCModelBPE
    from nemo.utils import logging as nemo_logging
    from omegaconf import OmegaConf, open_dict

    nemo_logging.setLevel(logging.ERROR)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(Path(folder))
        model = EncDecCTCModelBPE(cfg=OmegaConf.create(config(Path(folder), width, layers)))
        with open_dict(model.cfg):
            model.cfg.validation_ds = {"use_start_end_token": False}  # `transcribe()` looks in here
        model.save_to(str(out))
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=17)
    arguments = parser.parse_args()
    parameters = build(arguments.out, arguments.width, arguments.layers)
    print(f"{arguments.out}: {parameters / 1e6:.0f}M parameters")


if __name__ == "__main__":
    main()
