"""Fetching, moving and serving models, as the command does it, from a stand-in of the hub."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import nautilus.resources
from nautilus.engines.catalog import HUB
from nautilus.hubs.download import ATTEMPTS
from tests.hub import COMMIT, OLDER, Hub, serving
from tests.web.clips import SPEECH

NAME = "nvidia/parakeet-ctc-0.6b"
FOLDER = NAME.replace("/", "--")
FILES = {"config.json": b'{"model_type": "nemo-conformer-ctc"}', "model.onnx": b"graph", "model.int8.onnx": b"small"}
ENGLISH = "acme/english"
KNOWN = "hf_known"
EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"


@pytest.fixture
def hub() -> Iterator[Hub]:
    english = {file.name: file.read_bytes() for file in EMBEDDED.iterdir() if file.is_file()}
    repository = HUB[NAME].repository
    with serving(Hub({repository: FILES, ENGLISH: english}, older={repository: FILES})) as running:
        yield running


def surroundings(hub: Hub, home: Path, **variables: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "hf"),
        "NAUTILUS_MODELS_DIR": str(home / "models"),
        "NAUTILUS_CACHE_DIR": str(home / "cache"),
        "COLUMNS": "200",
        **variables,
    }


def nautilus_does(hub: Hub, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, "-m", "nautilus", *arguments], surroundings(hub, home, **variables)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)


def well(hub: Hub, home: Path, *arguments: str, **variables: str) -> str:
    """Run the command, and return what it said."""
    result = nautilus_does(hub, home, *arguments, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def badly(hub: Hub, home: Path, *arguments: str, **variables: str) -> str:
    """Run the command, which must fail with a sentence, and return it."""
    result = nautilus_does(hub, home, *arguments, **variables)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


@contextmanager
def server(hub: Hub, home: Path, model: str, **variables: str) -> Iterator[str]:
    command = [sys.executable, "-m", "nautilus", "serve", "--model", model, "--port", "0"]
    environment = surroundings(hub, home, NAUTILUS_LOG_FORMAT="json", **variables)
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield _address(process)
    finally:
        process.kill()
        process.communicate()


def test_a_model_is_pulled_listed_and_removed(hub: Hub, tmp_path: Path) -> None:
    pulled = well(hub, tmp_path, "models", "pull", NAME)
    folder = tmp_path / "models" / FOLDER
    assert str(folder) in pulled
    assert "41/41 bytes" in pulled
    assert (folder / "model.onnx").read_bytes() == b"graph"
    assert not (folder / "model.int8.onnx").exists()
    listed = next(line for line in well(hub, tmp_path, "models", "list").splitlines() if NAME in line)
    assert listed.split()[1:5] == ["installed", "onnx-asr", "en", COMMIT[:12]]
    well(hub, tmp_path, "models", "remove", NAME)
    assert not folder.exists()


def test_a_pinned_model_lies_beside_the_newest(hub: Hub, tmp_path: Path) -> None:
    for name in (NAME, f"{NAME}@v1"):
        well(hub, tmp_path, "models", "pull", name)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [FOLDER, f"{FOLDER}@v1"]
    assert f"v1 {OLDER[:12]}" in well(hub, tmp_path, "models", "list")


def test_a_model_that_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    well(hub, tmp_path, "models", "pull", NAME)
    hub.asked.clear()
    assert "is here already" in well(hub, tmp_path, "models", "pull", NAME)
    assert hub.asked == []


def test_a_broken_pull_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [len(FILES["config.json"]), 3, *[0] * ATTEMPTS]
    assert "what has arrived is kept" in badly(hub, tmp_path, "models", "pull", NAME)
    well(hub, tmp_path, "models", "pull", NAME)
    assert hub.asked[-1].endswith("model.onnx bytes=3-")


def test_offline_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    assert "NAUTILUS_OFFLINE" in badly(hub, tmp_path, "models", "pull", NAME, NAUTILUS_OFFLINE="true")
    assert "NAUTILUS_OFFLINE" in badly(hub, tmp_path, "models", "pull", NAME, HF_HUB_OFFLINE="1")
    assert hub.asked == []


def test_a_model_that_is_not_on_the_hub_is_said_so(hub: Hub, tmp_path: Path) -> None:
    assert "Check the name" in badly(hub, tmp_path, "models", "pull", "nvidia/canary-1b-v2")
    assert not (tmp_path / "models" / "nvidia--canary-1b-v2").exists()


def test_a_gated_model_comes_with_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.token, hub.gated = KNOWN, True
    assert "HF_TOKEN" in badly(hub, tmp_path, "models", "pull", NAME)
    well(hub, tmp_path, "models", "pull", NAME, HF_TOKEN=KNOWN)


def test_a_server_says_how_far_the_fetching_of_its_model_is(hub: Hub, tmp_path: Path) -> None:
    hub.wait_after = 8_000_000
    with server(hub, tmp_path, ENGLISH) as url:
        _wait(lambda: f"fetching {ENGLISH}: " in httpx.get(f"{url}/health/ready").json().get("progress", ""))
        assert re.search(r" of \d\d MB$", httpx.get(f"{url}/health/ready").json()["progress"])
        hub.go_on.set()
        _wait(lambda: httpx.get(f"{url}/health/ready").is_success)


def test_a_model_moves_to_a_machine_without_a_network(hub: Hub, tmp_path: Path) -> None:
    here, there, tar = tmp_path / "here", tmp_path / "there", tmp_path / "models.tar"
    well(hub, here, "models", "bundle", ENGLISH, NAME, "-o", str(tar))
    hub.asked.clear()
    installed = well(hub, there, "models", "install", str(tar), NAUTILUS_OFFLINE="true")
    assert str(there / "models" / "acme--english") in installed
    assert "are here already" in well(hub, there, "models", "install", str(tar), NAUTILUS_OFFLINE="true")
    described = well(hub, there, "models", "info", ENGLISH, NAUTILUS_OFFLINE="true")
    assert COMMIT in described
    assert "weights.bin" in described
    with server(hub, there, ENGLISH, NAUTILUS_OFFLINE="true") as url:
        _wait(lambda: httpx.get(f"{url}/health/ready").is_success)
        heard = httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=20).json()
    assert len(heard["text"].split()) > 3
    assert hub.asked == []


def test_a_model_that_was_put_there_by_hand_can_be_moved_too(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.nemo").write_bytes(b"weights")
    well(hub, tmp_path, "models", "bundle", "mine", "-o", str(tmp_path / "mine.tar"))
    well(hub, tmp_path / "there", "models", "install", str(tmp_path / "mine.tar"))
    assert (tmp_path / "there" / "models" / "mine" / "mine.nemo").read_bytes() == b"weights"


def test_a_tampered_tar_file_changes_nothing(hub: Hub, tmp_path: Path) -> None:
    tar = tmp_path / "models.tar"
    well(hub, tmp_path, "models", "bundle", NAME, "-o", str(tar))
    tar.write_bytes(tar.read_bytes().replace(b"graph", b"grapH"))
    assert "wrong checksum" in badly(hub, tmp_path / "there", "models", "install", str(tar))
    assert list((tmp_path / "there" / "models").iterdir()) == []


def test_the_embedded_model_needs_no_tar_file(hub: Hub, tmp_path: Path) -> None:
    assert "is not in the models folder" in badly(hub, tmp_path, "models", "bundle", "embedded")


def _address(process: "subprocess.Popen[str]") -> str:
    """Return where a server listens, which it logs first."""
    assert process.stderr
    for line in process.stderr:
        if "http://" in line:
            return "http://" + line.split("http://")[1].split('"')[0].split()[0].rstrip("/")
    raise AssertionError(process.poll())


def _wait(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # noqa: TID251 - another process is awaited
