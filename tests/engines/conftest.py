"""Models for the engines' tests, made once."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

import nautilus.resources
from nautilus.engines.base import Engine
from nautilus.engines.bundle import Bundle, read_bundle
from nautilus.engines.nemo import NemoEngine
from nautilus.engines.onnx import OnnxEngine
from tests.engines.models import TinyModels


@pytest.fixture(scope="session")
def nemo() -> None:
    """NeMo, imported once, which takes half a minute on a busy machine."""
    if find_spec("nemo") is None:
        pytest.skip("NeMo is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some forty, of packages that NeMo imports
        import nemo.collections.asr.models  # noqa: F401 - for its import's sake
        import torch
    torch.set_num_threads(1)  # more wait for each other where other tests run beside


@pytest.fixture(scope="session")
def tiny(nemo: None, tmp_path_factory: pytest.TempPathFactory) -> TinyModels:  # noqa: ARG001 - must be there
    """Tiny models of all families."""
    return TinyModels(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def embedded() -> Bundle:
    """The embedded model."""
    return read_bundle(Path(nautilus.resources.__file__).parent / "embedded")


@pytest.fixture(scope="session")
def embedded_onnx(embedded: Bundle) -> Engine:
    """Our engine on the embedded model."""
    return OnnxEngine(embedded)


@pytest.fixture(scope="session")
def embedded_nemo(nemo: None, embedded: Bundle) -> Engine:  # noqa: ARG001 - must be there
    """NeMo's engine on the embedded model's `.nemo` file."""
    return NemoEngine(embedded.name, embedded.folder / "model.nemo")
