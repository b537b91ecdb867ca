"""A NeMo model → files that ONNX Runtime serves without torch.

CTC models become a bundle of ours. Transducers become `encoder-model.onnx`, `decoder_joint-model.onnx`, `vocab.txt` and
`config.json`, onnx-asr's layout; a model that is told the language has one more input, its number. Needs the `nemo`
extra.

Encoders are traced here and not by NeMo's `export()`, which leaves out the lengths of CTC outputs and takes the masks
out of convolutional encoders, so that the items of a padded batch would hear each other.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from nautilus.engines.bundle import FORMAT, MANIFEST, bundle_beside
from nautilus.engines.nemo_prompt import LanguagePrompt
from nautilus.errors import ModelLoadError, UnsupportedError
from nautilus.types import SAMPLE_RATE

BLANK: Final = "<blk>"

OPSET: Final = 17

MODEL: Final = "model"
"""The parameter to blame for what cannot be exported."""


def export_model(source: str, out: Path) -> None:
    """Export a `.nemo` file or hub name into the new folder `out`. Blocking. On failure there is no such folder.

    Raises ModelLoadError if it cannot be loaded, UnsupportedError for what cannot be exported.
    """
    if find_spec("nemo") is None:
        raise ModelLoadError("Exporting needs NeMo: pip install 'nautilus[nemo]'.")
    refuse_existing(out)
    from nautilus.engines.nemo import family_of, load_model

    path = Path(source).expanduser()
    model = load_model(source, path if path.is_file() else None).cpu()
    with new_folder(out) as folder:
        match family_of(model):
            case "ctc":
                _export_ctc(model, folder, path.stem if path.is_file() else source, _measured(path))
            case "rnnt" | "tdt":
                _export_transducer(model, folder)
            case "hybrid":  # the transducer of its two decoders is the more accurate one
                model.change_decoding_strategy(decoder_type="rnnt", verbose=False)
                _export_transducer(model, folder)
            case family:
                raise UnsupportedError(
                    f"NeMo cannot export models of the family '{family}'; serve {source} with the NeMo engine.", MODEL
                )


def refuse_existing(out: Path) -> None:
    """Raise UnsupportedError where there is such a folder."""
    if out.exists():
        raise UnsupportedError(f"{out} exists already; name a new folder.", "out")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder that is there when it is finished, and not before."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch) / "finished"
        folder.mkdir()
        yield folder
        folder.rename(out)


def _measured(path: Path) -> dict[str, Any]:
    """Return what the bundle that a file is taken from knows of the model beyond its weights."""
    bundle = bundle_beside(path) if path.is_file() else None
    if bundle is None:
        return {}
    return {"languages": bundle.languages, "utterances": bundle.utterances, "calibration": asdict(bundle.calibration)}


def _export_ctc(model: Any, folder: Path, name: str, measured: dict[str, Any]) -> None:
    from nautilus.engines.nemo import languages_of, pieces_of, subsampling_of

    features = features_of(model)
    _trace(model, folder / "offline.onnx", "logprobs")
    pieces = [*pieces_of(model), BLANK]
    (folder / "tokens.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "name": name,
        "family": "ctc",
        "languages": languages_of(model),
        "sample_rate": SAMPLE_RATE,
        "features": features,
        "subsampling": subsampling_of(model),
        "tokens": "tokens.txt",
        "blank": len(pieces) - 1,
        "max_seconds": 30.0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "graphs": {"offline": "offline.onnx"},
        "sha256": {file.name: file_digest(file) for file in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest | measured, indent=2) + "\n", encoding="utf-8")


def _export_transducer(model: Any, folder: Path) -> None:
    from nautilus.engines.nemo import durations_of, languages_of, pieces_of, subsampling_of

    features, durations = features_of(model), durations_of(model)
    if durations not in ((), tuple(range(len(durations)))) or model.cfg.decoding.get("big_blank_durations"):
        raise UnsupportedError(
            f"Transducers with durations {durations} or big blanks cannot be exported. "
            "Serve the .nemo file with the NeMo engine.",
            MODEL,
        )
    _trace(model, folder / "encoder-model.onnx", "outputs")
    with _quiet():
        model.decoder_joint.export(str(folder / "decoder_joint-model.onnx"), onnx_opset_version=OPSET)
    lines = (f"{piece} {number}\n" for number, piece in enumerate([*pieces_of(model), BLANK]))
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    greedy, prompt = model.cfg.decoding.get("greedy", {}), LanguagePrompt.of(model)
    config = {
        "model_type": "nemo-conformer-tdt" if durations else "nemo-conformer-rnnt",
        "features_size": features["n_mels"],
        "subsampling_factor": subsampling_of(model),
        "max_tokens_per_step": int(greedy.get("max_symbols") or greedy.get("max_symbols_per_step") or 10),
        "features": features,
        "languages": prompt.languages if prompt else languages_of(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if prompt:
        config["prompts"] = prompt.numbers
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _trace(model: Any, target: Path, output: str) -> None:
    """Write the encoder, and a CTC model's output layer, as a graph of any batch and length."""
    import torch
    from nemo.core.classes.common import typecheck

    prompt = LanguagePrompt.of(model) is not None

    class Graph(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        """Features and their lengths to outputs and theirs."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.encoder
            self.decoder = model.decoder if output == "logprobs" else None
            self.tell = model.prompt_kernel if prompt else None

        def forward(self, audio_signal: Any, length: Any, prompt_index: Any = None) -> Any:
            encode = getattr(self.encoder, "forward_for_export", self.encoder.forward)
            encoded, lengths, *_ = encode(audio_signal=audio_signal, length=length)
            if self.tell is not None:
                told = (prompt_index[:, None] == torch.arange(model.num_prompts)).to(encoded.dtype)
                told = told[:, None].expand(-1, encoded.shape[2], -1)
                encoded = self.tell(torch.cat([encoded.transpose(1, 2), told], dim=2)).transpose(1, 2)
            outputs = self.decoder(encoder_output=encoded) if self.decoder is not None else encoded
            return outputs, lengths.to(torch.int64)

    names = ["audio_signal", "length", *(["prompt_index"] if prompt else [])], [output, "encoded_lengths"]
    time = 1 if output == "logprobs" else 2
    axes = {"audio_signal": {0: "batch", 2: "time"}, output: {0: "batch", time: "frames"}}
    axes |= {name: {0: "batch"} for name in (*names[0][1:], "encoded_lengths")}
    example = [torch.randn(2, int(model.cfg.preprocessor.get("features", 64)), 512), torch.tensor([512, 400])]
    if prompt:
        example.append(torch.tensor([0, 1]))
    try:
        with torch.inference_mode(), typecheck.disable_checks(), _quiet():
            torch.onnx.export(
                Graph().eval(), tuple(example), str(target), input_names=names[0], output_names=names[1],
                dynamic_axes=axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
    except Exception as error:
        raise ModelLoadError(f"torch could not export the model: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's warnings away: that its older exporter, which NeMo's layers need, is old, and what tracing fixes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def features_of(model: Any) -> dict[str, Any]:
    """Return a bundle's description of the model's features. Raises UnsupportedError where ours differ from them."""
    settings = model.cfg.preprocessor
    found = {key: settings.get(key, value) for key, value in FIXED_FEATURES.items()}
    found["_target_"] = str(settings.get("_target_")).rpartition(".")[2]
    normalize = str(settings.get("normalize", "per_feature"))
    guard = settings.get("log_zero_guard_value", 2.0**-24)
    if found != FIXED_FEATURES or normalize not in ("per_feature", "NA", "None") or isinstance(guard, str):
        raise UnsupportedError(
            f"Features with {found | {'normalize': normalize, 'log_zero_guard_value': guard}} cannot be exported. "
            "Serve the .nemo file with the NeMo engine.",
            MODEL,
        )
    window = round(float(settings.get("window_size", 0.02)) * SAMPLE_RATE)
    return {
        "n_mels": int(settings.get("features", 64)),
        "n_fft": int(settings.get("n_fft") or 1 << (window - 1).bit_length()),
        "window": window,
        "hop": round(float(settings.get("window_stride", 0.01)) * SAMPLE_RATE),
        "preemphasis": float(settings.get("preemph", 0.97) or 0.0),
        "log_guard": float(guard),
        "normalize": "per_feature" if normalize == "per_feature" else "none",
    }


FIXED_FEATURES: Final[dict[str, Any]] = {
    "_target_": "AudioToMelSpectrogramPreprocessor",
    "sample_rate": SAMPLE_RATE,
    "window": "hann",
    "lowfreq": 0,
    "highfreq": None,
    "log": True,
    "log_zero_guard_type": "add",
    "frame_splicing": 1,
    "exact_pad": False,
    "mag_power": 2.0,
    "mel_norm": "slaney",
}
"""What our features have in common, as NeMo's preprocessor calls it."""


def file_digest(file: Path) -> str:
    """Return a file's SHA-256."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
