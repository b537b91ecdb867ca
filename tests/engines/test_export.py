"""What is exported says what NeMo says, alone and in padded batches; what cannot be exported is refused."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as rt
import pytest

from nautilus.engines.bundle import Bundle, is_bundle, read_bundle, verify
from nautilus.engines.export import export_model
from nautilus.engines.onnx import OnnxEngine
from nautilus.errors import ModelLoadError, UnsupportedError
from nautilus.types import SAMPLE_RATE, Options
from tests.engines.models import TinyModels, build, serve
from tests.engines.sounds import assert_alike, noise, sample

pytestmark = [pytest.mark.nemo, pytest.mark.timeout(300)]

FRAME = 0.08
CLIPS = [sample(), sample()[: 3 * SAMPLE_RATE], noise(2.0), noise(0.4), np.concatenate([sample(), noise(1.0)])]


@pytest.mark.parametrize("family", ["ctc", "quartz", "rnnt", "tdt", "hybrid", "hybrid-tdt", "cache-aware"])
def test_an_export_hears_what_nemo_hears(tiny: TinyModels, family: str) -> None:
    expected = tiny.nemo(family).transcribe(CLIPS, Options())
    for ours, theirs in zip(tiny.onnx(family).transcribe(CLIPS, Options()), expected, strict=True):
        assert theirs.words
        assert_alike(ours, theirs, FRAME)


@pytest.mark.parametrize("family", ["prompted", "prompted-hybrid"])
def test_an_exported_model_hears_in_the_language_it_is_told(tiny: TinyModels, family: str) -> None:
    texts = set()
    for language in ("en", "de", None):
        expected = tiny.nemo(family).transcribe(CLIPS, Options(language=language))
        for ours, theirs in zip(tiny.onnx(family).transcribe(CLIPS, Options(language=language)), expected, strict=True):
            assert theirs.words
            assert_alike(ours, theirs, FRAME)
        texts.add(expected[0].text)
    assert len(texts) == 3
    assert tiny.onnx(family).info.languages == ("en", "de")
    with pytest.raises(UnsupportedError, match="'fi'; it knows: en, de"):
        tiny.onnx(family).transcribe(CLIPS, Options(language="fi"))


@pytest.mark.parametrize(
    ("family", "kind"), [("rnnt", "rnnt"), ("tdt", "tdt"), ("hybrid", "rnnt"), ("hybrid-tdt", "tdt")]
)
def test_a_transducer_is_laid_out_as_onnx_asr_wants_it(tiny: TinyModels, family: str, kind: str) -> None:
    folder = tiny.exported(family)
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "decoder_joint-model.onnx",
        "encoder-model.onnx",
        "vocab.txt",
    }
    config = json.loads((folder / "config.json").read_text())
    assert {
        key: config[key] for key in ("model_type", "features_size", "subsampling_factor", "max_tokens_per_step")
    } == {
        "model_type": f"nemo-conformer-{kind}",
        "features_size": 80,
        "subsampling_factor": 8,
        "max_tokens_per_step": 5,
    }
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert [line.rsplit(" ")[1] for line in lines] == [str(number) for number in range(129)]
    assert lines[-1] == "<blk> 128"


def test_a_ctc_model_becomes_a_bundle(tiny: TinyModels) -> None:
    folder = tiny.exported("ctc")
    bundle = read_bundle(folder)
    verify(bundle)
    assert is_bundle(folder)
    assert (bundle.name, bundle.blank, bundle.subsampling) == ("ctc", 128, 8)
    assert bundle.features.normalize == "per_feature"


@pytest.mark.parametrize(("family", "graph"), [("ctc", "offline.onnx"), ("rnnt", "encoder-model.onnx")])
def test_batch_and_time_are_free(tiny: TinyModels, family: str, graph: str) -> None:
    session = rt.InferenceSession(tiny.exported(family) / graph)
    shapes = {item.name: item.shape for item in (*session.get_inputs(), *session.get_outputs())}
    assert shapes["audio_signal"] == ["batch", 80, "time"]
    assert shapes["encoded_lengths"] == ["batch"]
    for batch, time in ((1, 9), (3, 1000)):
        features = np.random.default_rng(0).standard_normal((batch, 80, time)).astype(np.float32)
        _, lengths = session.run(None, {"audio_signal": features, "length": np.full(batch, time)})
        assert lengths.tolist() == [(time - 1) // 8 + 1] * batch


def test_a_cache_aware_model_exported_anew_hears_the_same(
    tiny: TinyModels, embedded: Bundle, embedded_onnx: OnnxEngine, tmp_path: Path
) -> None:
    del tiny  # NeMo is there
    export_model(str(embedded.folder / "model.nemo"), tmp_path / "again")
    again = OnnxEngine(read_bundle(tmp_path / "again"))
    for ours, theirs in zip(
        again.transcribe(CLIPS, Options()), embedded_onnx.transcribe(CLIPS, Options()), strict=True
    ):
        assert_alike(ours, theirs, FRAME)


def refused(source: Path, out: Path, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        export_model(str(source), out)
    assert list(out.parent.iterdir()) == []


def test_a_canary_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    refused(tiny.nemo_file("aed"), tmp_path / "out", "family 'aed'; serve .* with the NeMo engine")


@pytest.mark.usefixtures("nemo")
def test_features_that_nobody_computes_are_refused(tmp_path: Path) -> None:
    source = build("ctc", tmp_path.parent / f"{tmp_path.name}-low.nemo", lowfreq=60)
    refused(source, tmp_path / "out", "'lowfreq': 60.* cannot be exported")


@pytest.mark.usefixtures("nemo")
@pytest.mark.parametrize("family", ["ctc", "tdt"])
def test_other_features_are_ours_too(tmp_path: Path, family: str) -> None:
    source = build(family, tmp_path / "other.nemo", normalize="NA", features=64, window_size=0.02)
    export_model(str(source), tmp_path / "other")
    from nautilus.engines.nemo import NemoEngine

    for heard, expected in zip(
        serve(tmp_path / "other", family).transcribe(CLIPS, Options()),
        NemoEngine("other", source).transcribe(CLIPS, Options()),
        strict=True,
    ):
        assert_alike(heard, expected, FRAME)


@pytest.mark.usefixtures("nemo")
def test_a_broken_model_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "broken.nemo"
    source.write_bytes(b"no archive")
    with pytest.raises(ModelLoadError, match="broken"):
        export_model(str(source), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [source]


def test_a_folder_that_exists_is_left_alone(tiny: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(UnsupportedError, match="exists already"):
        export_model(str(tiny.nemo_file("ctc")), tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []
