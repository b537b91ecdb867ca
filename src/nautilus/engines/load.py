"""From a model in the catalog to an engine in memory, by the kind of its files."""

from importlib.util import find_spec
from pathlib import Path

from nautilus.engines.base import Engine, Report
from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.hub import fetch
from nautilus.errors import ModelLoadError


def load_engine(model: Model, report: Report, *, models_dir: Path, offline: bool) -> Engine:
    """Fetch and load a model. Blocking. Raises ModelLoadError."""
    path = model.path
    if model.kind == "nemo":
        return _load_nemo(model, report, offline=offline)
    if path is None:
        report(f"fetching {model.repository} from the hub")
        path = fetch(model.repository or model.name, Catalog(models_dir).folder(model.name), offline=offline)
    report("loading")
    if model.kind == "bundle":
        return _load_bundle(path)
    from nautilus.engines.onnx_asr import OnnxAsrEngine

    return OnnxAsrEngine(path, model.name, model.languages)


def _load_bundle(path: Path) -> Engine:
    from nautilus.engines.bundle import read_bundle

    bundle = read_bundle(path)
    if bundle.streaming:
        from nautilus.engines.onnx_streaming import OnnxStreamingEngine

        return OnnxStreamingEngine(bundle)
    from nautilus.engines.onnx import OnnxEngine

    return OnnxEngine(bundle)


def _load_nemo(model: Model, report: Report, *, offline: bool) -> Engine:
    if find_spec("nemo") is None:
        raise ModelLoadError(
            f"{model.name} needs the NeMo engine: pip install 'nautilus[nemo]', "
            "or turn the model into a bundle elsewhere with `nautilus export`."
        )
    if offline and model.path is None:
        raise ModelLoadError(f"{model.name} is not here and NAUTILUS_OFFLINE forbids to fetch it; name a .nemo file.")
    from nautilus.engines.nemo import NemoEngine

    report("importing NeMo")
    engine: Engine = NemoEngine(model.name, model.path)
    return engine


def fingerprint(model: Model) -> str:
    """Return a name for what a model's speed depends on."""
    if model.kind == "bundle" and model.path is not None:
        from nautilus.engines.bundle import read_bundle

        return read_bundle(model.path).fingerprint
    return f"{model.kind}-{model.name.strip('/').replace('/', '-')}"
