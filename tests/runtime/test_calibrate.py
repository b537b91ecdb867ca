import json
from pathlib import Path

from nautilus.engines.fake import FakeEngine
from nautilus.runtime.calibrate import CPU_SIZES, Sizing, cores, size


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    assert size(FakeEngine(), Sizing(3, 7), tmp_path / "memory.json") == Sizing(3, 7)


def test_a_measurement_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "sizing" / "fake.json"
    measured = size(FakeEngine(), Sizing(0, 0), memory)
    assert measured.workers == cores()
    assert measured.max_items in CPU_SIZES
    memory.write_text(json.dumps({"workers": cores(), "max_items": 13}))
    assert size(FakeEngine(), Sizing(0, 0), memory) == Sizing(cores(), 13)


def test_a_broken_memory_is_measured_again(tmp_path: Path) -> None:
    memory = tmp_path / "fake.json"
    memory.write_text("{")
    assert size(FakeEngine(), Sizing(1, 0), memory).max_items in CPU_SIZES


def test_an_engine_that_is_not_reentrant_gets_one_worker(tmp_path: Path) -> None:
    class Alone(FakeEngine):
        reentrant = False

    assert size(Alone(), Sizing(4, 2), tmp_path / "memory.json") == Sizing(1, 2)
