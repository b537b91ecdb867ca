"""8-bit weights: smaller files, the same words, whoever else is in the batch."""

import json
from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.bundle import MANIFEST, read_bundle, verify
from nautilus.engines.catalog import Catalog
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.engines.quantize import quantize_bundle
from nautilus.errors import UnsupportedError
from nautilus.types import Options, Waveform
from tests.engines.sounds import sample

pytestmark = pytest.mark.nemo  # `onnx` comes with it


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantized") / "bundle"
    quantize_bundle(Catalog(out.parent).embedded, out)
    return out


@pytest.fixture(scope="module")
def engine(quantized: Path) -> OnnxStreamingEngine:
    return OnnxStreamingEngine(read_bundle(quantized))


def test_it_hears_the_same_words(engine: OnnxStreamingEngine) -> None:
    exact = OnnxStreamingEngine(read_bundle(Catalog(Path("nowhere")).embedded))
    [theirs], [ours] = exact.transcribe([sample()], Options()), engine.transcribe([sample()], Options())
    assert ours.text == theirs.text
    assert ours.text


def test_neighbours_change_nothing(engine: OnnxStreamingEngine) -> None:
    loud: Waveform = np.clip(sample() * 20, -1, 1).astype(np.float32)
    [alone] = engine.transcribe([sample()], Options())
    [beside, _] = engine.transcribe([sample(), loud], Options())
    assert beside == alone


def test_the_bundle_says_what_it_is(quantized: Path) -> None:
    bundle = read_bundle(quantized)
    verify(bundle)
    assert bundle.name.endswith("-int8")
    assert bundle.fingerprint != read_bundle(Catalog(quantized).embedded).fingerprint
    assert (quantized / bundle.offline).stat().st_size < 6e6
    assert not (quantized / "model.nemo").exists()


def test_what_is_quantized_or_no_bundle_is_refused(quantized: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="quantized already"):
        quantize_bundle(quantized, tmp_path / "again")
    with pytest.raises(UnsupportedError, match="nautilus export"):
        quantize_bundle(tmp_path, tmp_path / "out")
    with pytest.raises(UnsupportedError, match="exists already"):
        quantize_bundle(quantized, quantized)
    assert not (tmp_path / "again").exists()


def test_a_bundle_without_streams_keeps_no_other_weights(quantized: Path, tmp_path: Path) -> None:
    source = tmp_path / "offline only"
    source.mkdir()
    embedded = Catalog(quantized).embedded
    for name in ("offline.onnx", "weights.bin", "tokens.txt"):
        (source / name).write_bytes((embedded / name).read_bytes())
    manifest = json.loads((embedded / MANIFEST).read_text())
    del manifest["graphs"]["streaming"]
    (source / MANIFEST).write_text(json.dumps(manifest))
    quantize_bundle(source, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MANIFEST, "offline.onnx", "tokens.txt"]
