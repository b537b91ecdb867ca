"""Fetching models, as the command does it, from a stand-in of the hub."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nautilus.engines.catalog import HUB
from tests.hub import Hub, serving

NAME = "nvidia/parakeet-ctc-0.6b"
FILES = {"config.json": b'{"model_type": "nemo-conformer-ctc"}', "model.onnx": b"graph", "model.int8.onnx": b"small"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub({HUB[NAME].repository: FILES})) as running:
        yield running


def nautilus(hub: Hub, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "NAUTILUS_MODELS_DIR": str(home / "models"),
        "COLUMNS": "200",
        **variables,
    }
    command = [sys.executable, "-m", "nautilus", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)


def test_a_model_is_pulled_listed_and_removed(hub: Hub, tmp_path: Path) -> None:
    pulled = nautilus(hub, tmp_path, "models", "pull", NAME)
    assert pulled.returncode == 0, pulled.stderr
    folder = tmp_path / "models" / NAME.replace("/", "--")
    assert (folder / "model.onnx").read_bytes() == b"graph"
    assert not (folder / "model.int8.onnx").exists()
    assert "installed" in nautilus(hub, tmp_path, "models", "list").stdout
    assert nautilus(hub, tmp_path, "models", "remove", NAME).returncode == 0
    assert not folder.exists()


def test_a_model_that_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    nautilus(hub, tmp_path, "models", "pull", NAME)
    hub.asked.clear()
    assert "is here already" in nautilus(hub, tmp_path, "models", "pull", NAME).stderr
    assert hub.asked == []


def test_offline_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    refused = nautilus(hub, tmp_path, "models", "pull", NAME, NAUTILUS_OFFLINE="true")
    assert refused.returncode == 1
    assert "NAUTILUS_OFFLINE" in refused.stderr
    assert hub.asked == []


def test_a_model_that_is_not_on_the_hub_is_said_so(hub: Hub, tmp_path: Path) -> None:
    missing = nautilus(hub, tmp_path, "models", "pull", "nvidia/canary-1b-v2")
    assert missing.returncode == 1
    assert "could not be fetched" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert not (tmp_path / "models" / "nvidia--canary-1b-v2").exists()
