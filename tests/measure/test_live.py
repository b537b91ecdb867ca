from pathlib import Path

from nautilus.measure.client import Target
from nautilus.measure.live import live_table, run_live

SAMPLE = Path(__file__).parents[2] / "benchmarks" / "sample.flac"


async def test_streams_are_played_in_real_time_and_their_answers_timed(server: str) -> None:
    one, many = await run_live(Target(server), [SAMPLE], [1, 6], 4.0, "high")
    assert (len(one.lags), len(many.lags)) == (1, 6)
    assert not one.errors
    assert not many.errors
    assert -1 < many.lag(0.95) < 5
    assert 0 < one.first_words(0.5) < 5
    assert live_table([one, many]).row_count == 2


async def test_what_is_refused_is_counted(server: str) -> None:
    (refused,) = await run_live(Target(server), [SAMPLE], [2], 0.1, "never")
    assert refused.errors == {"400": 2}
