import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from nautilus.engines.base import Live
from nautilus.engines.fake import FakeEngine
from nautilus.runtime.calibrate import CPU_SIZES, MANY, TOGETHER, Sizing, cores, size
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    asked = Sizing(3, 7, (0.1, 0.1, 0.1, 0.2, 0.3), 5)
    assert size(FakeEngine(), asked, tmp_path / "memory.json") == asked


def test_a_measurement_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "sizing" / "fake.json"
    measured = size(FakeEngine(), Sizing(0, 0), memory)
    assert measured.workers == cores()
    assert measured.max_items in CPU_SIZES
    known = Sizing(cores(), 13, (0.1, 0.1, 0.1, 0.2, 0.3), 5)
    memory.write_text(json.dumps(asdict(known)))
    assert size(FakeEngine(), Sizing(0, 0), memory) == known


def test_a_broken_memory_is_measured_again(tmp_path: Path) -> None:
    memory = tmp_path / "fake.json"
    memory.write_text("{")
    assert size(FakeEngine(), Sizing(1, 0), memory).max_items in CPU_SIZES


def test_where_the_model_takes_no_time_batches_are_large(tmp_path: Path) -> None:
    assert size(FakeEngine(), Sizing(2, 0), tmp_path / "memory.json").max_items == max(CPU_SIZES)


def test_where_neighbours_cost_more_than_a_batch_of_their_own_there_are_none(tmp_path: Path) -> None:
    class Padded(FakeEngine):
        def transcribe(self, waveforms: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            until = time.thread_time() + 0.002 * len(waveforms) ** 2
            while time.thread_time() < until:
                pass
            return super().transcribe(waveforms, options)

    assert size(Padded(), Sizing(1, 0), tmp_path / "memory.json").max_items == 1


def test_where_neighbours_cost_what_they_would_alone_only_those_that_need_no_padding_share_a_batch(
    tmp_path: Path,
) -> None:
    class Even(FakeEngine):
        def transcribe(self, waveforms: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            until = time.thread_time() + 0.02 * len(waveforms)
            while time.thread_time() < until:
                pass
            return super().transcribe(waveforms, options)

    padded, packed = Even(), Even()
    packed.info = replace(packed.info, packed=True)
    assert size(padded, Sizing(1, 0), tmp_path / "padded.json").max_items == 1
    assert size(packed, Sizing(1, 0), tmp_path / "packed.json").max_items == max(CPU_SIZES)


def test_an_engine_that_is_not_reentrant_gets_one_worker(tmp_path: Path) -> None:
    class Alone(FakeEngine):
        reentrant = False

    sizing = size(Alone(), Sizing(4, 2), tmp_path / "memory.json")
    assert (sizing.workers, sizing.max_items) == (1, 2)


def test_a_stream_costs_more_the_sooner_words_come_where_utterances_are_heard_again(tmp_path: Path) -> None:
    sizing = size(FakeEngine(), Sizing(1, 1), tmp_path / "memory.json")
    assert len(sizing.shares) == len(FakeEngine().info.waits)
    assert list(sizing.shares) == sorted(sizing.shares)
    assert 0 < sizing.shares[0] < sizing.shares[-1] < 1


@dataclass(slots=True)
class Heard:
    """A stream's state."""

    chunk: float
    waiting: float = 0.0


class Streaming(FakeEngine):
    """Takes two milliseconds of a processor for a chunk, however long that is."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, look_aheads=(0.92, 0.42, 0.12))
        self.steps = 0
        self.slower_by_neighbours = 0.0

    def open(self, look_ahead: float, /) -> Heard:
        return Heard(look_ahead + self.info.frame_seconds)

    def step(self, batch: Sequence[tuple[Heard, Waveform]], /) -> list[Live]:
        self.steps += 1
        for state, sound in batch:
            state.waiting += len(sound) / SAMPLE_RATE
            while state.waiting >= state.chunk - 1e-6:
                state.waiting -= state.chunk
                until = time.thread_time() + 0.002 * len(batch) ** self.slower_by_neighbours
                while time.thread_time() < until:
                    pass
        return [self.finish(state) for state, _ in batch]

    def cut(self, state: Heard, /) -> None:
        del state

    def finish(self, state: Heard, /) -> Live:
        del state
        return Live(Hypothesis(""), 0.0, 0.0)


def test_a_stream_s_share_is_what_its_chunks_take(tmp_path: Path) -> None:
    shares = size(Streaming(), Sizing(2, 4), tmp_path / "memory.json").shares
    assert shares == pytest.approx((0.002, 0.004, 0.01), rel=0.5)


def test_what_streams_take_is_measured_once(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    first = size(Streaming(), Sizing(1, 4), memory)
    later = Streaming()
    assert size(later, Sizing(1, 4), memory) == first
    assert size(later, first, tmp_path / "elsewhere.json") == first
    assert later.steps == 0


def test_a_memory_without_streams_is_measured_again(tmp_path: Path) -> None:
    memory = tmp_path / "memory.json"
    memory.write_text(json.dumps({"workers": 1, "max_items": 13}))
    measured = size(Streaming(), Sizing(1, 0), memory)
    assert measured.max_items in CPU_SIZES
    assert len(measured.shares) == 3
    assert json.loads(memory.read_text()) == {
        "workers": 1,
        "max_items": measured.max_items,
        "shares": [*measured.shares],
        "step_streams": measured.step_streams,
    }


def test_only_where_it_is_worth_while_many_streams_share_a_step(tmp_path: Path) -> None:
    for slower, together in ((-0.5, MANY), (0.0, TOGETHER), (1.0, TOGETHER)):
        engine = Streaming()
        engine.slower_by_neighbours = slower
        assert size(engine, Sizing(1, 1), tmp_path / f"{slower}.json").step_streams == together
