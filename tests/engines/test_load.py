"""Models that are only on a hub are fetched, then loaded from the disk."""

from pathlib import Path

import pytest

import nautilus.resources
from nautilus.engines.catalog import Catalog
from nautilus.engines.load import load_engine
from tests.hub import Hub, serving

NAME = "ngc:acme/models/english:1.0"
EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"


@pytest.mark.nemo
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("nemo")
def test_a_nemo_file_is_fetched_once_and_loaded_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "acme/models/english/versions/1.0/files/english.nemo"
    told: list[str] = []
    with serving(Hub(ngc={path: (EMBEDDED / "model.nemo").read_bytes()})) as hub:
        monkeypatch.setenv("NGC_ENDPOINT", hub.url)
        engine = load_engine(Catalog(tmp_path).find(NAME), told.append, models_dir=tmp_path, offline=False)
    assert (engine.info.runtime, engine.info.name) == ("nemo", NAME)
    assert f"fetching {NAME}: 16 of 16 MB" in told
    again = load_engine(Catalog(tmp_path).find(NAME), told.append, models_dir=tmp_path, offline=True)
    assert again.info == engine.info
