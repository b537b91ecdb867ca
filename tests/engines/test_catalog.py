import json
from pathlib import Path

import pytest

from nautilus.engines.bundle import MANIFEST
from nautilus.engines.catalog import HUB, Catalog, Model
from nautilus.errors import UnknownModelError
from nautilus.hubs.record import Record, write_record
from nautilus.hubs.source import Source


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "models")


def bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps({"name": "mine", "languages": ["de"]}))
    return folder


def test_the_embedded_model_has_two_names(catalog: Catalog) -> None:
    assert catalog.find("embedded") == catalog.find(catalog.embedded_name)
    assert catalog.find("embedded").languages == ("en",)


def test_a_bundle_is_found_by_its_folder(catalog: Catalog, tmp_path: Path) -> None:
    found = catalog.find(str(bundle(tmp_path / "mine")))
    assert (found.kind, found.languages) == ("bundle", ("de",))


def test_a_nemo_file_is_found_by_its_path(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "model.nemo").touch()
    assert catalog.find(str(tmp_path / "model.nemo")).kind == "nemo"


def test_known_hub_names_have_onnx_files_and_others_need_nemo(catalog: Catalog) -> None:
    assert [catalog.find(name).kind for name in HUB] == ["onnx-asr"] * len(HUB)
    assert catalog.find("nvidia/stt_en_fastconformer_ctc_large").kind == "nemo"


def test_a_revision_is_of_the_repository_that_has_the_files(catalog: Catalog) -> None:
    name = "nvidia/parakeet-ctc-0.6b"
    pinned = catalog.find(f"{name}@abc")
    assert pinned.source == Source("huggingface", HUB[name].repository, "abc")
    assert pinned.languages == HUB[name].languages
    assert catalog.find("owner/model@abc").source == Source("huggingface", "owner/model", "abc")


def test_a_name_on_ngc_is_known_by_its_prefix(catalog: Catalog) -> None:
    found = catalog.find("ngc:nvidia/nemo/stt_en:1.6.0")
    assert (found.kind, found.source) == ("nemo", Source("ngc", "nvidia/nemo/stt_en", "1.6.0"))


def test_an_installed_model_knows_where_it_came_from(catalog: Catalog) -> None:
    folder, source = bundle(catalog.folder("owner/mine@v1")), Source("huggingface", "owner/mine", "v1")
    write_record(Record("owner/mine@v1", source, "abc", {}), folder)
    assert catalog.find("owner/mine@v1") == Model("owner/mine@v1", "bundle", folder, source, ("de",))


def test_an_installed_model_is_taken_before_the_hub(catalog: Catalog) -> None:
    name = "nvidia/parakeet-tdt-0.6b-v3"
    folder = catalog.folder(name)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert catalog.find(name).path == folder
    assert [model.name for model in catalog.installed()] == [catalog.embedded_name, name]


@pytest.mark.parametrize("name", ["nothing", "../../etc", "/no/such/folder", "a/b/c", "~/x/y", "owner/", ""])
def test_other_names_are_unknown(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModelError):
        catalog.find(name)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", ".hidden", "~root", ""])
def test_no_name_leads_out_of_the_models_folder(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownModelError):
        catalog.folder(name)
