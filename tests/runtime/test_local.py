from dataclasses import replace

import pytest

from nautilus.engines.base import EngineInfo
from nautilus.runtime.calibrate import Sizing
from nautilus.runtime.local import CPU_PADDING, GPU_PADDING, PACKED_PADDING, settled
from nautilus.runtime.queue import BatchLimits

INFO = EngineInfo("any", "ctc", "onnx", "cpu")


@pytest.mark.parametrize(
    ("info", "padding"),
    [
        (INFO, CPU_PADDING),
        (replace(INFO, device="cuda"), GPU_PADDING),
        (replace(INFO, packed=True), PACKED_PADDING),
        (replace(INFO, device="cuda", packed=True), PACKED_PADDING),
    ],
)
def test_how_much_of_a_batch_may_be_padding_is_what_padding_costs(info: EngineInfo, padding: float) -> None:
    assert settled(BatchLimits(), Sizing(2, 8), info).max_padding == padding
    assert settled(BatchLimits(max_padding=0.1), Sizing(2, 8), info).max_padding == 0.1


def test_what_was_measured_fills_in_what_was_left_open() -> None:
    limits = settled(BatchLimits(), Sizing(2, 8), INFO)
    assert (limits.workers, limits.max_items) == (2, 8)
