"""From a model in the catalog to an engine in memory, by the kind of its files."""

from importlib.util import find_spec
from pathlib import Path

from nautilus.engines.base import Engine, Report
from nautilus.engines.catalog import Catalog, Model
from nautilus.errors import ModelLoadError, UnknownModelError
from nautilus.hubs.client import usual_access
from nautilus.hubs.fetch import fetch, look_up
from nautilus.hubs.progress import Progress, in_words


def load_engine(model: Model, report: Report, *, models_dir: Path, offline: bool) -> Engine:
    """Fetch and load a model. Blocking. Raises ModelLoadError."""
    if model.path is None:
        report(f"looking for {model.name}")
        told = in_words(model.name, report)
        model = fetch_model(model, told, models_dir=models_dir, offline=offline, to_load=True)
    if model.path is None:
        raise UnknownModelError(model.name)
    if model.kind == "nemo":
        return _load_nemo(model, report)
    report("loading")
    if model.kind == "bundle":
        return _load_bundle(model.path)
    return _load_onnx_files(model.path, model)


def fetch_model(model: Model, progress: Progress, *, models_dir: Path, offline: bool, to_load: bool = False) -> Model:
    """Bring a model from its hub into the models folder, and return it as it lies there. Blocking.

    Raises ModelLoadError; also, before anything is fetched, if it is `to_load` and nothing here could.
    """
    if model.source is None:
        raise UnknownModelError(model.name)
    access, catalog = usual_access(offline=offline), Catalog(models_dir)
    offer = look_up(model.name, model.source, access)
    if to_load and offer.needs_nemo:
        _need_nemo(model.name)
    fetch(offer, catalog.folder(model.name), access, progress)
    return catalog.find(model.name)


def _load_bundle(path: Path) -> Engine:
    from nautilus.engines.bundle import read_bundle

    bundle = read_bundle(path)
    if bundle.streaming:
        from nautilus.engines.onnx_streaming import OnnxStreamingEngine

        return OnnxStreamingEngine(bundle)
    from nautilus.engines.onnx import OnnxEngine

    return OnnxEngine(bundle)


def _load_onnx_files(path: Path, model: Model) -> Engine:
    from nautilus.engines.onnx_transducer import OnnxTransducerEngine, is_transducer

    if is_transducer(path):
        return OnnxTransducerEngine(path, model.name, model.languages)
    from nautilus.engines.onnx_asr import OnnxAsrEngine

    return OnnxAsrEngine(path, model.name, model.languages)


def _load_nemo(model: Model, report: Report) -> Engine:
    _need_nemo(model.name)
    from nautilus.engines.nemo_streaming import NemoStreamingEngine

    report("importing NeMo")
    engine: Engine = NemoStreamingEngine(model.name, model.path)
    return engine


def _need_nemo(name: str) -> None:
    if find_spec("nemo") is None:
        raise ModelLoadError(
            f"{name} needs the NeMo engine: pip install 'nautilus[nemo]', "
            "or turn the model into a bundle elsewhere with `nautilus export`."
        )


def fingerprint(model: Model) -> str:
    """Return a name for what a model's speed depends on."""
    if model.kind == "bundle" and model.path is not None:
        from nautilus.engines.bundle import read_bundle

        return read_bundle(model.path).fingerprint
    return f"{model.kind}-{model.name.strip('/').replace('/', '-')}"
