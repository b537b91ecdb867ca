"""8-bit weights: smaller files, the same words, whoever else is in the batch."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.bundle import MANIFEST, Bundle, read_bundle, verify
from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.keywords import KeywordGraph
from nautilus.engines.onnx import OnnxEngine, open_session, padded
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.engines.quantize import quantize_model
from nautilus.errors import ModelLoadError, UnsupportedError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform
from tests.engines.models import TinyModels, serve
from tests.engines.sounds import noise, sample

pytestmark = pytest.mark.nemo  # `onnx` comes with it


def found(path: Path) -> Model:
    return Catalog(path).find(str(path))


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quantized") / "bundle"
    quantize_model(found(Catalog(out.parent).embedded), out, [sample()])
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


def test_a_batch_is_one_call_of_the_network(quantized: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls(read_bundle(quantized), monkeypatch) == 1


def test_a_bundle_that_scales_a_batch_as_a_whole_hears_one_at_a_time(
    quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = shutil.copytree(quantized, tmp_path / "earlier")
    manifest = json.loads((earlier / MANIFEST).read_text())
    (earlier / MANIFEST).write_text(json.dumps(manifest | {"quantized": True}))
    assert calls(read_bundle(earlier), monkeypatch) == 3


def calls(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the network is run for three recordings."""
    engine, count = OnnxEngine(bundle), 0
    hear = engine._hear

    def counted(waveforms: Sequence[Waveform], graph: KeywordGraph | None) -> list[Hypothesis]:
        nonlocal count
        count += 1
        return hear(waveforms, graph)

    monkeypatch.setattr(engine, "_hear", counted)
    assert len({answer.text for answer in engine.transcribe([sample()] * 3, Options())}) == 1
    return count


def test_what_is_heard_louder_than_all_that_was_measured_is_cut_off_not_wrapped(tmp_path: Path) -> None:
    embedded = Catalog(tmp_path).embedded
    quantize_model(found(embedded), tmp_path / "quiet", [noise(1.0) * 0.01])
    [heard] = OnnxEngine(read_bundle(tmp_path / "quiet")).transcribe([sample()], Options())
    [exact] = OnnxEngine(read_bundle(embedded)).transcribe([sample()], Options())
    assert SequenceMatcher(a=heard.text, b=exact.text).ratio() > 0.5


def test_every_linear_layer_becomes_integers(quantized: Path) -> None:
    import onnx

    before, after = (
        Counter(node.op_type for node in onnx.load(folder / "offline.onnx").graph.node)
        for folder in (Catalog(quantized).embedded, quantized)
    )
    assert before["Gemm"] == after["MatMulIntegerToFloat"]
    assert not after["Gemm"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["ctc", "quartz"])
def test_what_nemo_exports_computes_nearly_the_same(tiny: TinyModels, family: str, tmp_path: Path) -> None:
    source = tiny.exported(family)
    quantize_model(found(source), tmp_path / "out", [sample()])
    exact, quantized = read_bundle(source), read_bundle(tmp_path / "out")
    import onnx

    kinds = Counter(node.op_type for node in onnx.load(quantized.folder / quantized.offline).graph.node)
    assert kinds["MatMulIntegerToFloat"] > 3
    signal, lengths = padded([exact.features(waveform) for waveform in (sample(), sample()[: 2 * SAMPLE_RATE])])
    scores = [
        open_session(bundle.folder / bundle.offline).run(["logprobs"], {"audio_signal": signal, "length": lengths})[0]
        for bundle in (exact, quantized)
    ]
    assert np.corrcoef(*(one.ravel() for one in scores))[0, 1] > 0.98


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["rnnt", "tdt", "prompted"])
def test_a_transducer_s_encoder_becomes_integers(tiny: TinyModels, family: str, tmp_path: Path) -> None:
    source = tiny.exported(family)
    quantize_model(replace(found(source), languages=("fi",)), tmp_path / "out", [sample()])
    exact, quantized = tiny.onnx(family), serve(tmp_path / "out", family)
    assert quantized.info == replace(exact.info, languages=exact.info.languages or ("fi",))
    encoder = "encoder-model.onnx"
    assert (tmp_path / "out" / encoder).stat().st_size < (source / encoder).stat().st_size
    assert quantized.transcribe([sample()], Options())[0].words
    with pytest.raises(UnsupportedError, match="quantized already"):
        quantize_model(found(tmp_path / "out"), tmp_path / "again", [sample()])


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nautilus.engines.quantize.find_spec", lambda _: None)
    with pytest.raises(ModelLoadError, match=r"pip install 'nautilus\[quantize\]'"):
        quantize_model(found(Catalog(tmp_path).embedded), tmp_path / "out", [sample()])


def test_without_a_recording_nothing_is_made(tmp_path: Path) -> None:
    for recordings in ([], [sample()[:10]]):
        with pytest.raises(UnsupportedError, match="no recording to fit the scales to"):
            quantize_model(found(Catalog(tmp_path).embedded), tmp_path / "out", recordings)
    assert list(tmp_path.iterdir()) == []


def test_live_streams_are_heard_by_integers_too(engine: OnnxStreamingEngine) -> None:
    exact = OnnxStreamingEngine(read_bundle(Catalog(Path("nowhere")).embedded))
    for look_ahead in engine.info.look_aheads:
        theirs, ours = (played(one, look_ahead) for one in (exact, engine))
        assert SequenceMatcher(a=ours, b=theirs).ratio() > 0.9


def played(engine: OnnxStreamingEngine, look_ahead: float) -> str:
    """What a stream beside a loud one hears."""
    states = [engine.open(look_ahead), engine.open(look_ahead)]
    loud: Waveform = np.clip(sample() * 20, -1, 1).astype(np.float32)
    engine.step([(states[0], sample()), (states[1], loud)])
    beside = engine.finish(states[0]).hypothesis
    alone = engine.open(look_ahead)
    engine.step([(alone, sample())])
    assert engine.finish(alone).hypothesis == beside
    return beside.text


def test_the_bundle_says_what_it_is(quantized: Path) -> None:
    bundle = read_bundle(quantized)
    verify(bundle)
    assert bundle.name.endswith("-int8")
    assert bundle.fingerprint != read_bundle(Catalog(quantized).embedded).fingerprint
    files = {file.name: file.stat().st_size for file in quantized.iterdir()}
    assert {*files} == {MANIFEST, "MODEL_CARD.md", "offline.onnx", "streaming.onnx", "tokens.txt"}
    assert max(files.values()) < 6e6


def test_what_is_quantized_or_cannot_be_is_refused(quantized: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="quantized already"):
        quantize_model(found(quantized), tmp_path / "again", [sample()])
    with pytest.raises(UnsupportedError, match="nautilus export"):
        quantize_model(Model("mine", "nemo", tmp_path / "mine.nemo"), tmp_path / "out", [sample()])
    with pytest.raises(UnsupportedError, match="`nautilus models pull nvidia/parakeet"):
        quantize_model(Catalog(tmp_path).find("nvidia/parakeet-tdt-0.6b-v3"), tmp_path / "out", [sample()])
    with pytest.raises(UnsupportedError, match="exists already"):
        quantize_model(found(quantized), quantized, [sample()])
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
    quantize_model(found(source), tmp_path / "out", [sample()])
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [MANIFEST, "offline.onnx", "tokens.txt"]
