import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nautilus.engines.bundle import MANIFEST, Bundle, is_bundle, read_bundle, verify
from nautilus.engines.onnx import OnnxEngine
from nautilus.errors import ModelLoadError


@pytest.fixture
def folder(embedded: Bundle, tmp_path: Path) -> Path:
    """A copy of the embedded bundle, to be broken."""
    copy = tmp_path / "bundle"
    shutil.copytree(embedded.folder, copy, ignore=shutil.ignore_patterns("*.nemo", "*.part"))
    edit(copy, lambda manifest: manifest["sha256"].pop("model.nemo"))
    return copy


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_a_whole_bundle_is_read_and_verified(folder: Path) -> None:
    bundle = read_bundle(folder)
    verify(bundle)
    assert is_bundle(folder)
    assert (bundle.frame_seconds, len(bundle.pieces)) == (0.08, bundle.blank + 1)
    assert bundle.pieces[bundle.blank] == "<blk>"


@pytest.mark.parametrize("name", ["offline.onnx", "weights.bin", "tokens.txt"])
def test_a_flipped_bit_is_found(folder: Path, name: str) -> None:
    bundle = read_bundle(folder)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelLoadError, match=rf"{name} is damaged"):
        verify(bundle)


def test_verifying_names_a_missing_file(folder: Path) -> None:
    bundle = read_bundle(folder)
    (folder / "weights.bin").unlink()
    with pytest.raises(ModelLoadError, match=r"weights\.bin cannot be read"):
        verify(bundle)


@pytest.mark.parametrize("name", ["offline.onnx", "streaming.onnx", "tokens.txt", MANIFEST])
def test_reading_names_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelLoadError, match=name):
        read_bundle(folder)


def test_loading_names_missing_weights(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    with pytest.raises(ModelLoadError, match=r"weights\.bin"):
        OnnxEngine(read_bundle(folder))


def test_another_format_is_refused(folder: Path) -> None:
    edit(folder, lambda manifest: manifest.update(format=2))
    with pytest.raises(ModelLoadError, match="format 2; this server reads 1"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', '{"format": 1, "features": "mel"}'])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(ModelLoadError, match="not a usable model bundle"):
        read_bundle(folder)


def test_a_vocabulary_cut_short_is_refused(folder: Path) -> None:
    tokens = (folder / "tokens.txt").read_text(encoding="utf-8").splitlines()
    (folder / "tokens.txt").write_text("\n".join(tokens[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ModelLoadError, match=f"has {len(tokens) - 1} tokens"):
        read_bundle(folder)


def test_the_fingerprint_changes_with_the_weights(folder: Path) -> None:
    before = read_bundle(folder).fingerprint
    edit(folder, lambda manifest: manifest["sha256"].update({"weights.bin": "0" * 64}))
    assert read_bundle(folder).fingerprint != before
