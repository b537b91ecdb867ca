"""A NeMo model → files that ONNX Runtime serves without torch.

CTC models become a bundle of ours. Transducers become the layout that onnx-asr reads: `encoder-model.onnx`,
`decoder_joint-model.onnx`, `vocab.txt`, `config.json`. Needs the `nemo` extra.
"""

import hashlib
import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nautilus.engines.bundle import FORMAT, MANIFEST
from nautilus.errors import ModelLoadError, UnsupportedError

BLANK = "<blk>"


def export_model(source: str, out: Path) -> None:
    """Export a `.nemo` file or hub name into the new folder `out`. Blocking.

    Raises ModelLoadError if it cannot be loaded, UnsupportedError for a family that cannot be exported.
    """
    if find_spec("nemo") is None:
        raise ModelLoadError("Exporting needs NeMo: pip install 'nautilus[nemo]'.")
    if out.exists():
        raise UnsupportedError(f"{out} exists already; name a new folder.", "out")
    from nautilus.engines.nemo import family_of, load_model

    path = Path(source).expanduser()
    model = load_model(source, path if path.is_file() else None).cpu()
    with tempfile.TemporaryDirectory(prefix="nautilus-export-") as scratch:
        folder = Path(scratch)
        match family_of(model):
            case "ctc":
                _export_ctc(model, folder, name=path.stem if path.is_file() else source)
            case "rnnt" | "tdt" as family:
                _export_transducer(model, folder, family)
            case "hybrid":
                _export_hybrid(model, folder)
            case family:
                raise UnsupportedError(
                    f"Models of the family '{family}' cannot be exported; serve {source} with the NeMo engine.", "model"
                )
        _publish(folder, out)


def _export_ctc(model: Any, folder: Path, name: str) -> None:
    _to_onnx(model, folder / "offline.onnx")
    pieces = [*_vocabulary(model), BLANK]
    (folder / "tokens.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "name": name,
        "family": "ctc",
        "languages": [],
        "sample_rate": int(model.cfg.preprocessor.sample_rate),
        "features": _features(model),
        "subsampling": _subsampling(model),
        "tokens": "tokens.txt",
        "blank": len(pieces) - 1,
        "max_seconds": 30.0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "graphs": {"offline": "offline.onnx"},
        "sha256": {file.name: _sha256(file) for file in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _export_hybrid(model: Any, folder: Path) -> None:
    """Export the transducer of a model that has both decoders: it is the more accurate one."""
    model.change_decoding_strategy(decoder_type="rnnt", verbose=False)
    family = "tdt" if str(model.cfg.get("loss", {}).get("loss_name", "")) == "tdt" else "rnnt"
    _export_transducer(model, folder, family)


def _export_transducer(model: Any, folder: Path, family: str) -> None:
    _to_onnx(model, folder / "model.onnx")  # NeMo puts `encoder-` and `decoder_joint-` before the name
    pieces = [*_vocabulary(model), BLANK]
    lines = (f"{piece} {number}\n" for number, piece in enumerate(pieces))
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    config = {
        "model_type": f"nemo-conformer-{family}",
        "features_size": int(model.cfg.preprocessor.features),
        "subsampling_factor": _subsampling(model),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _to_onnx(model: Any, target: Path) -> None:
    import torch

    model.eval()
    model.freeze()
    try:
        with torch.inference_mode():
            model.export(str(target), check_trace=False)
    except Exception as error:
        raise ModelLoadError(f"NeMo could not export the model: {error}") from error


def _vocabulary(model: Any) -> list[str]:
    """Return the sub-words, or the characters of a model without a tokenizer, in the order of the outputs."""
    if hasattr(model, "tokenizer"):
        return [str(piece) for piece in model.tokenizer.vocab]
    return [" " if character == " " else str(character) for character in model.decoder.vocabulary]


def _features(model: Any) -> dict[str, Any]:
    settings = model.cfg.preprocessor
    rate = int(settings.sample_rate)
    normalize = str(settings.get("normalize", "per_feature"))
    if rate != 16_000 or normalize not in ("per_feature", "NA", "None"):  # noqa: PLR2004 - the one rate we have
        raise UnsupportedError(f"Features at {rate} Hz, normalised '{normalize}', cannot be exported.", "model")
    return {
        "n_mels": int(settings.features),
        "n_fft": int(settings.get("n_fft") or 512),
        "window": round(float(settings.window_size) * rate),
        "hop": round(float(settings.window_stride) * rate),
        "preemphasis": float(settings.get("preemph", 0.97)),
        "log_guard": 2.0**-24,
        "normalize": "per_feature" if normalize == "per_feature" else "none",
    }


def _subsampling(model: Any) -> int:
    return int(model.cfg.encoder.get("subsampling_factor", 8))


def _publish(folder: Path, out: Path) -> None:
    """Give the finished files their place; nothing half made is ever seen there."""
    import shutil

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.copytree(folder, partial, dirs_exist_ok=True)
    partial.rename(out)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
