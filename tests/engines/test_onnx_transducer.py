"""What the engine makes of good and of broken folders; that it hears what NeMo hears is in `test_export`."""

import json
import shutil
from pathlib import Path

import pytest

from nautilus.engines.base import Engine
from nautilus.engines.catalog import Model
from nautilus.engines.load import load_engine
from nautilus.engines.onnx_transducer import OnnxTransducerEngine, Said
from nautilus.errors import ModelLoadError
from nautilus.types import Options
from tests.engines.models import TinyModels
from tests.engines.sounds import assert_alike, sample


def load(folder: Path) -> Engine:
    model = Model("mine", "onnx-asr", folder, None, ("en",))
    return load_engine(model, lambda _: None, models_dir=folder, offline=True)


def copy(folder: Path, target: Path, **changed: object) -> Path:
    """Copy an export, with another `config.json`."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text()) | changed
    config = {key: value for key, value in config.items() if value is not None}
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.nemo
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", ["rnnt", "tdt"])
def test_a_folder_as_the_hub_has_it_is_served(tiny: TinyModels, tmp_path: Path, family: str) -> None:
    folder = copy(tiny.exported(family), tmp_path / "hub", features=None, languages=None, parameters=None)
    engine = load(folder)
    assert (engine.info.family, engine.info.languages, engine.info.keywords) == (family, ("en",), True)
    (ours,), (theirs,) = (one.transcribe([sample()], Options()) for one in (engine, tiny.onnx(family)))
    assert_alike(ours, theirs, 0.0)


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_a_broken_folder_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    good = tiny.exported("tdt")
    odd = copy(good, tmp_path / "odd", features={"mels": 3})
    with pytest.raises(ModelLoadError, match="features that nobody computes"):
        load(odd)
    unread = copy(good, tmp_path / "unread")
    (unread / "vocab.txt").unlink()
    with pytest.raises(ModelLoadError, match=r"vocab\.txt cannot be read"):
        load(unread)
    (unread / "vocab.txt").write_text("a 0\nb 1\n")
    with pytest.raises(ModelLoadError, match="does not end with <blk>"):
        load(unread)
    other = copy(good, tmp_path / "other")
    shutil.copy(good / "encoder-model.onnx", other / "decoder_joint-model.onnx")
    with pytest.raises(ModelLoadError, match=r"takes no .*targets"):
        load(other)


def test_a_folder_without_graphs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nemo-conformer-rnnt"}')
    (tmp_path / "vocab.txt").write_text("a 0\n<blk> 1\n")
    with pytest.raises(ModelLoadError, match=r"encoder-model\.onnx"):
        OnnxTransducerEngine(tmp_path, "broken", ())


def test_it_says_so_many_tokens_in_a_frame() -> None:
    said = Said()
    for _ in range(3):
        said.say(1, -0.5, 0, 2)
    assert said.starts == [0, 0, 1]
    said.say(1, -0.5, 3, 2)
    said.wait(0)
    assert (said.starts, said.frame) == ([0, 0, 1, 1], 5)
