"""Tar files of models: what goes in comes out, and nothing else ever does."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nautilus.engines.catalog import Catalog
from nautilus.errors import ModelLoadError, NautilusError
from nautilus.hubs.archive import FORMAT, MANIFEST, pack, unpack
from nautilus.hubs.progress import unheard
from nautilus.hubs.record import RECORD, Record, read_record, record_by_hand, write_record
from nautilus.hubs.source import Source

NAMES = ("owner/model", "owner/other@v1")
FILES = {"config.json": b"{}", "onnx/model.onnx": b"graph"}


def made(models_dir: Path, name: str) -> tuple[Record, Path]:
    folder = Catalog(models_dir).folder(name)
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    record = Record(name, Source("huggingface", "owner/model"), "abc", record_by_hand(name, folder).files)
    write_record(record, folder)
    return record, folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    out = tmp_path / "models.tar"
    pack([made(tmp_path / "here", name) for name in NAMES], out, unheard)
    return out


def installed(archive: Path, models_dir: Path) -> list[str]:
    return [record.name for record in unpack(archive, models_dir, Catalog(models_dir).folder, unheard)]


def refused(archive: Path, models_dir: Path, says: str) -> None:
    with pytest.raises(NautilusError, match=says):
        installed(archive, models_dir)
    assert not models_dir.exists() or list(models_dir.iterdir()) == []
    assert not list(models_dir.parent.rglob("evil*"))


def rewritten(archive: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """Return a copy of a tar file after a change to its members."""
    with tarfile.open(archive) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # all files
    change(members)
    out = archive.with_name("changed.tar")
    with tarfile.open(out, "w") as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return out


def with_manifest(archive: Path, change: Callable[[Any], None]) -> Path:
    """Return a copy of a tar file after a change to its manifest."""

    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        manifest = json.loads(members[0][1])
        change(manifest)
        data = json.dumps(manifest).encode()
        members[0] = (member(MANIFEST, len(data)), data)

    return rewritten(archive, edit)


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def test_what_was_packed_is_installed_elsewhere(archive: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert installed(archive, there) == list(NAMES)
    assert sorted(path.name for path in there.iterdir()) == ["owner--model", "owner--other@v1"]
    for name in NAMES:
        folder = Catalog(there).folder(name)
        assert {path: (folder / path).read_bytes() for path in FILES} == FILES
        assert read_record(folder) == made(tmp_path / "here", name)[0]


def test_what_is_here_already_stays(archive: Path, tmp_path: Path) -> None:
    installed(archive, tmp_path / "there")
    assert installed(archive, tmp_path / "there") == []
    Catalog(tmp_path / "there").folder(NAMES[0]).rename(tmp_path / "away")
    assert installed(archive, tmp_path / "there") == [NAMES[0]]


def test_another_model_of_the_name_is_not_replaced(archive: Path, tmp_path: Path) -> None:
    _, folder = made(tmp_path / "there", NAMES[0])
    (folder / "config.json").write_bytes(b"[]")
    write_record(record_by_hand(NAMES[0], folder), folder)
    with pytest.raises(ModelLoadError, match="nautilus models remove owner/model"):
        installed(archive, tmp_path / "there")
    assert (folder / "config.json").read_bytes() == b"[]"
    assert not Catalog(tmp_path / "there").folder(NAMES[1]).exists()


def test_a_model_that_was_changed_after_it_was_fetched_is_not_packed(tmp_path: Path) -> None:
    record, folder = made(tmp_path / "here", NAMES[0])
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(ModelLoadError, match=r"config.json was changed"):
        pack([(record, folder)], tmp_path / "models.tar", unheard)
    assert not list(tmp_path.glob("*.tar*")) + list(tmp_path.glob(".*"))


def test_a_changed_byte_is_noticed(archive: Path, tmp_path: Path) -> None:
    def spoil(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[-1] = (members[-1][0], b"grapH")

    refused(rewritten(archive, spoil), tmp_path / "there", "wrong checksum")


def test_a_tar_file_that_was_cut_is_noticed(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    where = data.rindex(b"graph")
    archive.write_bytes(data[: where + 2])
    refused(archive, tmp_path / "there", "Nothing was")


def test_a_missing_file_is_noticed(archive: Path, tmp_path: Path) -> None:
    changed = rewritten(archive, lambda members: members.pop() and None)
    refused(changed, tmp_path / "there", "lacks owner--other@v1/onnx/model.onnx")


@pytest.mark.parametrize(
    "extra",
    [
        member("../evil", 0),
        member("/tmp/evil", 0),  # noqa: S108 - never written
        member("owner--model/evil", 0),
        member("owner--model/config.json", 0),
        member("evil", 0, tarfile.SYMTYPE),
        member("evil", 0, tarfile.LNKTYPE),
        member("evil", 0, tarfile.CHRTYPE),
        member("evil", 0, tarfile.DIRTYPE),
    ],
)
def test_members_that_the_manifest_does_not_name_are_refused(
    archive: Path, tmp_path: Path, extra: tarfile.TarInfo
) -> None:
    extra.linkname = "/etc/passwd"
    changed = rewritten(archive, lambda members: members.append((extra, b"")))
    refused(changed, tmp_path / "there", "not what its manifest says")


def test_a_link_in_place_of_a_file_is_refused(archive: Path, tmp_path: Path) -> None:
    def link(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = member(members[1][0].name, 0, tarfile.SYMTYPE)
        info.linkname = "/etc/passwd"
        members[1] = (info, b"")

    refused(rewritten(archive, link), tmp_path / "there", "not what its manifest says")


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "a\\evil", "", ".", RECORD])
def test_paths_that_lead_out_of_the_folder_are_refused(archive: Path, tmp_path: Path, path: str) -> None:
    def rename(manifest: Any) -> None:
        files = manifest["models"][0]["files"]
        files[path] = files.pop("config.json")

    refused(with_manifest(archive, rename), tmp_path / "there", "Nothing was|nothing was")


@pytest.mark.parametrize("name", ["../evil", "/evil", "", ".evil", "~evil"])
def test_names_that_lead_out_of_the_models_folder_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    changed = with_manifest(archive, lambda manifest: manifest["models"][0].update(name=name))
    refused(changed, tmp_path / "there", "There is no model named")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest.update(format=FORMAT + 1), "Upgrade Nautilus"),
        (lambda manifest: manifest.pop("models"), "a manifest that this version cannot read"),
        (lambda manifest: manifest["models"][1].update(name=NAMES[0]), "names a model twice"),
        (lambda manifest: manifest["models"][0]["files"]["config.json"].update(size=10**15), "needs 1000 TB"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(
    archive: Path, tmp_path: Path, change: Callable[[Any], None], says: str
) -> None:
    refused(with_manifest(archive, change), tmp_path / "there", says)


def test_other_files_are_not_installed(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no tar file")
    refused(tmp_path / "no.tar", tmp_path / "there", "could not be installed")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.addfile(member("evil", 0))
    refused(tmp_path / "other.tar", tmp_path / "there", "was not made by `nautilus models bundle`")
    refused(tmp_path / "nothing.tar", tmp_path / "there", "could not be installed")
