from pathlib import Path

import pytest

from nautilus.errors import BadRequestError
from nautilus.measure.bench import Round, rounds_table, run_rounds
from nautilus.measure.client import Target
from tests.web.clips import wav


async def test_rounds_count_audio_latency_and_changes(fake_server: str, tmp_path: Path) -> None:
    for seconds in (1, 2):
        (tmp_path / f"{seconds}.wav").write_bytes(wav(seconds))
    one, four = await run_rounds(Target(fake_server), [tmp_path], [1, 4], 0.3)
    assert (one.clients, four.clients) == (1, 4)
    for measured in (one, four):
        assert measured.audio >= len(measured.latencies) > 0
        assert not measured.errors
        assert measured.mismatches == 0
        assert measured.percentile(0.5) <= measured.percentile(0.99)
    assert rounds_table([one, four]).row_count == 2


async def test_no_server_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(1))
    with pytest.raises(BadRequestError, match="There is no server"):
        await run_rounds(Target("http://127.0.0.1:9"), [tmp_path], [1], 0.1)


async def test_nothing_to_send_is_said_so(fake_server: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nonsense")
    with pytest.raises(BadRequestError, match="None of the files"):
        await run_rounds(Target(fake_server), [tmp_path], [1], 0.1)


def test_percentiles_of_nothing_are_no_number() -> None:
    empty = Round(1)
    assert empty.percentile(0.5) != empty.percentile(0.5)
    assert empty.throughput == 0.0
