"""A model as files: a folder with `nautilus.json`, ONNX graphs, shared weights and the vocabulary."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nautilus.engines.features import LogMel
from nautilus.engines.words import UNCALIBRATED, Calibration
from nautilus.errors import ModelLoadError

MANIFEST = "nautilus.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class StreamingGraph:
    """The cache-aware graph: what a step takes and gives."""

    file: str
    look_aheads: tuple[int, ...]
    """Encoder frames of right context that the model was trained with, best first."""
    left_context: int
    """Encoder frames of attention cache."""
    pre_encode_cache: int
    """Feature frames repeated from the step before."""
    drop_extra_pre_encoded: int
    """Encoder frames at the start of a step that the repeated features make, and that are dropped."""
    first_padding: int
    """Feature frames of zeros before the first step."""
    cache_last_channel: tuple[int, ...]
    """Shape without the batch: (layers, frames, width)."""
    cache_last_time: tuple[int, ...]
    """Shape without the batch: (layers, width, frames)."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model's manifest and where its files are."""

    folder: Path
    name: str
    family: str
    features: LogMel
    subsampling: int
    """Feature frames for one encoder frame."""
    pieces: tuple[str, ...]
    blank: int
    offline: str
    """File of the whole-window graph."""
    streaming: StreamingGraph | None = None
    languages: tuple[str, ...] = ()
    max_seconds: float = 30.0
    utterances: bool = False
    """Whether the model was trained on single utterances only."""
    packed: bool = False
    """Whether the whole-window graph leaves padding out: it takes recordings of any lengths together at no cost."""
    parameters: int | None = None
    quantized: bool = False
    """Whether the whole-window graph has 8-bit weights."""
    alone: bool = False
    """Whether that graph scales all of a batch by one factor, as earlier ones did: a neighbour would be heard."""
    calibration: Calibration = UNCALIBRATED
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def frame_seconds(self) -> float:
        """Length of one encoder frame."""
        return self.subsampling * self.features.hop / 16_000

    @property
    def fingerprint(self) -> str:
        """Changes whenever the weights do."""
        return hashlib.sha256(json.dumps(self.sha256, sort_keys=True).encode()).hexdigest()[:16]


def is_bundle(folder: Path) -> bool:
    """Whether `folder` holds a bundle of ours."""
    return (folder / MANIFEST).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle's manifest and vocabulary. Raises ModelLoadError if it is not one that we can serve."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ModelLoadError(f"{folder} is a bundle of format {manifest['format']}; this server reads {FORMAT}.")
        bundle = _bundle(folder, manifest)
    except OSError as error:
        raise ModelLoadError(f"{error.filename} cannot be read: {error.strerror}. Export the model again.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{folder} is not a usable model bundle: {error!r}. Export it again.") from error
    _check(bundle)
    return bundle


def bundle_beside(file: Path | None) -> Bundle | None:
    """Return the bundle that a model's file lies in, which knows what was measured of the model; None without one."""
    return read_bundle(file.parent) if file is not None and is_bundle(file.parent) else None


def verify(bundle: Bundle) -> None:
    """Compare every file with the manifest's checksum. Raises ModelLoadError at the first that differs."""
    for name, expected in bundle.sha256.items():
        path = bundle.folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelLoadError(f"{path} cannot be read: {error.strerror}. Fetch the model again.") from error
        if found != expected:
            raise ModelLoadError(f"{path} is damaged: its checksum differs. Fetch the model again.")


def _check(bundle: Bundle) -> None:
    for name in (bundle.offline, bundle.streaming.file if bundle.streaming else bundle.offline):
        if not (bundle.folder / name).is_file():
            raise ModelLoadError(f"{bundle.folder / name} is missing. Fetch or export the model again.")
    if len(bundle.pieces) != bundle.blank + 1:
        raise ModelLoadError(
            f"{bundle.folder} has {len(bundle.pieces)} tokens where its graph has {bundle.blank + 1}. Export it again."
        )


def _bundle(folder: Path, manifest: dict[str, Any]) -> Bundle:
    features = {key: value for key, value in manifest["features"].items() if key != "kind"}
    graphs = manifest["graphs"]
    return Bundle(
        folder=folder,
        name=manifest["name"],
        family=manifest["family"],
        features=LogMel(**features),
        subsampling=manifest["subsampling"],
        pieces=tuple((folder / manifest["tokens"]).read_text(encoding="utf-8").removesuffix("\n").split("\n")),
        blank=manifest["blank"],
        offline=graphs["offline"],
        streaming=_streaming(graphs["streaming"]) if graphs.get("streaming") else None,
        languages=tuple(manifest.get("languages", ())),
        max_seconds=manifest.get("max_seconds", 30.0),
        utterances=manifest.get("utterances", False),
        packed=manifest.get("packed", False),
        parameters=manifest.get("parameters"),
        quantized=bool(manifest.get("quantized", False)),
        alone=manifest.get("quantized") is True,
        calibration=Calibration(**manifest.get("calibration", {})),
        sha256=manifest.get("sha256", {}),
    )


def _streaming(graph: dict[str, Any]) -> StreamingGraph:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in graph.items()}
    return StreamingGraph(**values)
