"""Fetching models from stand-ins of the hubs."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus.errors import ModelLoadError
from nautilus.hubs.client import Access
from nautilus.hubs.download import ATTEMPTS
from nautilus.hubs.fetch import fetch, forget, look_up, partial_of
from nautilus.hubs.progress import unheard
from nautilus.hubs.record import RECORD, KeptFile, Record, read_record
from nautilus.hubs.source import Source, parse
from tests.hub import COMMIT, OLDER, Hub, serving

NAME = "owner/model"
GRAPH = bytes(range(256)) * 40_000
"""Ten megabytes: several chunks."""
OURS = "hf_known"
FILES = {"config.json": b"{}", "model.onnx": GRAPH, "model.int8.onnx": b"small", "README.md": b"# Model"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub({NAME: FILES}, older={NAME: FILES | {"model.onnx": b"older"}})) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "owner--model"


def bring(hub: Hub, folder: Path, name: str = NAME, key: str | None = None) -> Path:
    access = Access(huggingface=hub.url, ngc=hub.url, token=key, ngc_key=key)
    fetch(look_up(name, source(name), access), folder, access, unheard)
    return folder


def source(name: str) -> Source:
    found = parse(name)
    assert found
    return found


def refused(hub: Hub, folder: Path, says: str, name: str = NAME) -> None:
    with pytest.raises(ModelLoadError, match=says):
        bring(hub, folder, name)
    assert not folder.exists()


def kept(data: bytes) -> KeptFile:
    return KeptFile(hashlib.sha256(data).hexdigest(), len(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_can_be_served_is_fetched_and_written_down(hub: Hub, folder: Path) -> None:
    bring(hub, folder)
    assert names(folder) == ["config.json", "model.onnx", RECORD]
    assert (folder / "model.onnx").read_bytes() == GRAPH
    files = {"config.json": kept(b"{}"), "model.onnx": kept(GRAPH)}
    assert read_record(folder) == Record(NAME, Source("huggingface", NAME), COMMIT, files)


@pytest.mark.parametrize("revision", ["v1", OLDER])
def test_a_pinned_revision_is_the_one_that_comes(hub: Hub, folder: Path, revision: str) -> None:
    bring(hub, folder, f"{NAME}@{revision}")
    assert (folder / "model.onnx").read_bytes() == b"older"
    record = read_record(folder)
    assert record
    assert (record.commit, record.source) == (OLDER, Source("huggingface", NAME, revision))


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, 3_000_000]
    bring(hub, folder)
    assert (folder / "model.onnx").read_bytes() == GRAPH
    assert hub.asked[-1] == f"GET /{NAME}/resolve/{COMMIT}/model.onnx bytes=3000000-"


def test_a_second_attempt_fetches_only_the_rest(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, 3_000_000, *[0] * ATTEMPTS]
    refused(hub, folder, "what has arrived is kept")
    hub.asked.clear()
    bring(hub, folder)
    assert (folder / "model.onnx").read_bytes() == GRAPH
    assert hub.asked[1:] == [f"GET /{NAME}/resolve/{COMMIT}/model.onnx bytes=3000000-"]


def test_a_hub_that_knows_no_ranges_sends_all_again(hub: Hub, folder: Path) -> None:
    hub.ranges, hub.cuts = False, [2, 3_000_000]
    bring(hub, folder)
    assert (folder / "model.onnx").read_bytes() == GRAPH


def test_the_rest_of_another_revision_is_not_mixed_in(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, 3_000_000, *[0] * ATTEMPTS]
    refused(hub, folder, "could not be fetched")
    bring(hub, folder, f"{NAME}@v1")
    assert (folder / "model.onnx").read_bytes() == b"older"
    assert names(folder) == ["config.json", "model.onnx", RECORD]


@pytest.mark.parametrize("file", ["model.onnx", "config.json"])
def test_a_wrong_checksum_is_noticed_and_the_file_removed(hub: Hub, folder: Path, file: str) -> None:
    hub.spoilt.add(file)
    refused(hub, folder, f"{file} of {NAME} arrived with a wrong checksum")
    assert not [name for name in names(partial_of(folder)) if file in name]
    hub.spoilt.clear()
    assert names(bring(hub, folder)) == ["config.json", "model.onnx", RECORD]


def test_a_file_that_was_damaged_between_two_attempts_is_fetched_again(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, *[0] * ATTEMPTS]
    refused(hub, folder, "could not be fetched")
    (partial_of(folder) / "config.json").write_bytes(b"[]")
    refused(hub, folder, r"config.json of .* wrong checksum")
    bring(hub, folder)
    assert (folder / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("promised", [len(GRAPH) + 5, len(GRAPH) - 5])
def test_a_size_that_was_not_promised_is_wrong_too(hub: Hub, folder: Path, promised: int) -> None:
    hub.declared["model.onnx"] = promised
    refused(hub, folder, "wrong checksum")


def test_a_model_larger_than_the_disk_is_refused_before_it_is_fetched(hub: Hub, folder: Path) -> None:
    hub.declared["model.onnx"] = 10**15
    refused(hub, folder, rf"{NAME} needs 1000 TB, and .* free\. .*NAUTILUS_MODELS_DIR")
    assert not [asked for asked in hub.asked if "resolve" in asked]


def test_a_folder_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(hub, tmp_path / "file" / "owner--model", "Set NAUTILUS_MODELS_DIR to another folder")


def test_offline_nobody_is_asked(hub: Hub) -> None:
    with pytest.raises(ModelLoadError, match=r"NAUTILUS_OFFLINE .* models bundle"):
        look_up(NAME, source(NAME), Access(huggingface=hub.url, offline=True))
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("owner/nothing", "There is no owner/nothing on the Hugging Face hub, or it is private.*HF_TOKEN"),
        (f"{NAME}@v9", f"{NAME} has no revision 'v9'"),
        ("ngc:nvidia/nemo/nothing:1.0", "There is no ngc:nvidia/nemo/nothing:1.0 on NGC.*NGC_API_KEY"),
    ],
)
def test_what_is_not_there_is_said_so(hub: Hub, folder: Path, name: str, says: str) -> None:
    refused(hub, folder, says, name)


def test_a_hub_that_does_not_answer_is_named(folder: Path) -> None:
    hub = Hub(url="http://127.0.0.1:9")
    refused(hub, folder, "could not be fetched from http://127.0.0.1:9")


@pytest.mark.parametrize("gated", [True, False])
def test_what_is_not_for_everyone_asks_for_a_token(hub: Hub, folder: Path, gated: bool) -> None:
    hub.token, hub.gated = OURS, gated
    refused(hub, folder, "set HF_TOKEN")
    assert (bring(hub, folder, key=OURS) / "model.onnx").is_file()


def test_a_token_is_not_shown() -> None:
    assert OURS not in repr(Access(huggingface="", token=OURS, ngc_key=OURS))


@pytest.mark.parametrize("path", ["../out.onnx", "/etc/out.onnx", "a/../../out.onnx", "a\\out.onnx", "a//out.onnx"])
def test_a_hub_cannot_write_elsewhere(hub: Hub, folder: Path, path: str) -> None:
    hub.repositories = {NAME: {"config.json": b"{}", path: b"x"}}
    refused(hub, folder, "leads out of the model's folder")


def test_of_a_nemo_repository_only_the_nemo_file_is_fetched(hub: Hub, folder: Path) -> None:
    hub.repositories = {NAME: {"config.json": b"{}", "model.safetensors": b"x", "the-model.nemo": b"weights"}}
    assert names(bring(hub, folder)) == [RECORD, "the-model.nemo"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.nemo": b"x", "b.nemo": b"y"}, r"several .nemo files \(a.nemo, b.nemo\)"),
        ({"model.safetensors": b"x"}, "neither ONNX graphs that can be served nor a .nemo file"),
    ],
)
def test_what_nothing_here_can_load_is_not_fetched(hub: Hub, folder: Path, files: dict[str, bytes], says: str) -> None:
    hub.repositories = {NAME: files}
    refused(hub, folder, says)


def test_files_in_folders_keep_their_place(hub: Hub, folder: Path) -> None:
    hub.repositories = {NAME: {"config.json": b"{}", "onnx/model.onnx": b"graph"}}
    assert (bring(hub, folder) / "onnx" / "model.onnx").read_bytes() == b"graph"


def test_ngc_gives_the_file_that_nemo_would_take(hub: Hub, folder: Path) -> None:
    hub.ngc, hub.token = {"nvidia/nemo/stt_en/versions/1.6.0/files/stt_en.nemo": GRAPH}, OURS
    hub.cuts = [3_000_000]
    name = "ngc:nvidia/nemo/stt_en:1.6.0"
    refused(hub, folder, "set NGC_API_KEY", name)
    bring(hub, folder, name, key=OURS)
    assert (folder / "stt_en.nemo").read_bytes() == GRAPH
    assert hub.asked[-1].endswith("bytes=3000000-")
    assert read_record(folder) == Record(name, source(name), None, {"stt_en.nemo": kept(GRAPH)})


def test_a_file_on_ngc_may_be_named_otherwise_than_its_model(hub: Hub, folder: Path) -> None:
    hub.ngc = {"nvidia/nemo/stt_hr/versions/1.21.0/files/Averaged.nemo": b"weights"}
    assert names(bring(hub, folder, "ngc:nvidia/nemo/stt_hr:1.21.0?file=Averaged.nemo")) == ["Averaged.nemo", RECORD]


def test_two_at_once_fetch_it_once(hub: Hub, folder: Path) -> None:
    both = [threading.Thread(target=bring, args=(hub, folder)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    bring(hub, folder)  # a third who had not seen that it is there
    assert list(folder.parent.iterdir()) == [folder]
    assert names(folder) == ["config.json", "model.onnx", RECORD]
    assert len([asked for asked in hub.asked if "resolve" in asked]) == 2


def test_progress_begins_where_an_earlier_attempt_stopped_and_ends_with_all(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, 3_000_000, *[0] * ATTEMPTS]
    refused(hub, folder, "could not be fetched")
    heard: list[tuple[int, int]] = []
    access, total = Access(huggingface=hub.url), len(GRAPH) + 2
    fetch(look_up(NAME, source(NAME), access), folder, access, lambda here, of: heard.append((here, of)))
    assert heard[-1] == (total, total)
    assert [here for here, _ in heard] == sorted(here for here, _ in heard)


def test_what_a_broken_fetch_left_can_be_removed(hub: Hub, folder: Path) -> None:
    hub.cuts = [2, 3_000_000, *[0] * ATTEMPTS]
    refused(hub, folder, "could not be fetched")
    assert forget(folder)
    assert list(folder.parent.iterdir()) == []
    assert not forget(folder)
