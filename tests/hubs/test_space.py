from pathlib import Path

import pytest

from nautilus.errors import ModelLoadError
from nautilus.hubs.space import in_units, need_space


def test_what_is_needed_and_what_is_free_are_told(tmp_path: Path) -> None:
    need_space("owner/model", 1, tmp_path / "new")
    with pytest.raises(
        ModelLoadError, match=rf"owner/model needs 1000 TB, and {tmp_path} has .* free.*NAUTILUS_MODELS_DIR"
    ):
        need_space("owner/model", 10**15, tmp_path)


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 bytes"), (4_200, "4 kB"), (1_600_000, "1.6 MB"), (640_000_000, "640 MB"), (2_450_000_000, "2.5 GB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert in_units(size) == text
