"""An RNN-T or a TDT whose encoder is that of the embedded model, and whose other parts are small."""

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf, open_dict

import nautilus.resources

EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded" / "model.nemo"
HIDDEN = 96
PARTS = ("decoder", "joint")
"""What is trained."""
DURATIONS = (0, 1, 2, 3, 4)
"""Encoder frames that a TDT's token may last."""


def create(*, tdt: bool) -> Any:  # NeMo is untyped
    """Return the model with the embedded encoder and everything else at random."""
    from nemo.collections.asr.models import EncDecRNNTBPEModel

    teacher = restored()
    config = OmegaConf.create(OmegaConf.to_container(teacher.cfg, resolve=True))
    with open_dict(config):
        for name in ("decoder", "target", "aux_ctc", "nemo_version", "validation_ds", "train_ds", "optim"):
            config.pop(name, None)
        config.update(settings(config.encoder.d_model, DURATIONS if tdt else ()))
        config.tokenizer = {"dir": str(tokenizer_of(teacher)), "type": "bpe"}
    model = EncDecRNNTBPEModel(cfg=config)
    model.encoder.load_state_dict(teacher.encoder.state_dict())
    with open_dict(model.cfg):
        model.cfg.validation_ds = {"use_start_end_token": False}
    return model.eval()


def restored() -> Any:  # NeMo is untyped
    """Return the embedded model."""
    from nemo.collections.asr.models import EncDecCTCModelBPE

    return EncDecCTCModelBPE.restore_from(str(EMBEDDED), map_location="cpu").eval()


def tokenizer_of(teacher: Any) -> Path:  # NeMo is untyped
    """Return the folder that the teacher's tokenizer was unpacked into, under the names that NeMo looks for."""
    import tempfile

    folder = Path(tempfile.mkdtemp())
    processor = teacher.tokenizer.tokenizer
    (folder / "tokenizer.model").write_bytes(processor.serialized_model_proto())
    pieces = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    return folder


def settings(width: int, durations: tuple[int, ...]) -> dict[str, Any]:
    """Return a transducer's settings, as in NeMo's examples; with durations, a TDT's."""
    timing = {"tdt_durations": list(durations), "num_tdt_durations": len(durations)}
    return {
        "model_defaults": {"enc_hidden": width, "pred_hidden": HIDDEN, "joint_hidden": HIDDEN} | timing,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": HIDDEN, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": HIDDEN, "activation": "relu", "dropout": 0.1},
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 5}}
        | ({"model_type": "tdt", "durations": list(durations)} if durations else {}),
        "loss": {"loss_name": "warprnnt_numba"},
    }


def save(model: Any, path: Path, parts: tuple[str, ...] = PARTS) -> None:  # NeMo is untyped
    """Write what was learnt, in half precision."""
    state = {f"{part}.{key}": value for part in parts for key, value in getattr(model, part).state_dict().items()}
    np.savez_compressed(path, **{key: value.numpy().astype(np.float16) for key, value in state.items()})


def load(model: Any, path: Path, parts: tuple[str, ...] = PARTS) -> Any:  # NeMo is untyped
    """Read what was learnt into a new model."""
    import torch

    with np.load(path) as file:
        state = {key: torch.from_numpy(file[key].astype(np.float32)) for key in file.files}
    for part in parts:
        own = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        getattr(model, part).load_state_dict(own)
    return model.eval()
