import hashlib
from pathlib import Path

import pytest

from nautilus.errors import ModelLoadError
from nautilus.hubs.record import RECORD, KeptFile, Record, read_record, record_by_hand, write_record
from nautilus.hubs.source import Source


def test_what_is_written_down_is_read_again(tmp_path: Path) -> None:
    record = Record("owner/m@v1", Source("huggingface", "owner/m", "v1"), "abc", {"a/b.onnx": KeptFile("12ef", 10**10)})
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    assert record.size == 10**10


def test_a_model_that_was_put_there_by_hand_has_none_until_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"graph")
    assert read_record(tmp_path) is None
    kept = KeptFile(hashlib.sha256(b"graph").hexdigest(), 5)
    assert record_by_hand("mine", tmp_path) == Record("mine", None, None, {"onnx/model.onnx": kept})


@pytest.mark.parametrize("damage", ["", "{}", '{"name": 1}', "[]"])
def test_a_damaged_one_says_what_to_do(tmp_path: Path, damage: str) -> None:
    (tmp_path / RECORD).write_text(damage)
    with pytest.raises(ModelLoadError, match="remove the model and fetch it again"):
        read_record(tmp_path)
