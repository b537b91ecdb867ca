import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np
import pytest

from nautilus.engines.base import EngineInfo, Live
from nautilus.observe import LaneMeters
from nautilus.runtime.ears import Ears
from nautilus.runtime.lane import Heard
from nautilus.runtime.live import AT_ONCE, Stepper, Turn, fitting
from nautilus.runtime.places import Places, room
from nautilus.runtime.streams import Step, StreamTable
from nautilus.types import Hypothesis, Options, Waveform

INFO = EngineInfo("gated", "ctc", "fake", "cpu", look_aheads=(0.5,))
SOUND = np.zeros(1600, np.float32)
NOTHING = Live(Hypothesis(""), 0.0, 0.0)


class Gated:
    """Steps when its gate is open."""

    info = INFO
    reentrant = True

    def __init__(self) -> None:
        self.gate = Event()
        self.entered = Event()

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        raise NotImplementedError

    def open(self, look_ahead: float, /) -> object:
        del look_ahead
        return object()

    def step(self, batch: Sequence[tuple[object, Waveform]], /) -> list[Live]:
        if batch:
            self.entered.set()
            self.gate.wait(5)
        return [self.finish(state) for state, _ in batch]

    def cut(self, state: object, /) -> None:
        del state

    def finish(self, state: object, /) -> Live:
        del state
        return NOTHING


async def nobody(*_: object, **__: object) -> Heard:
    raise AssertionError


async def work(stepper: Stepper) -> None:
    """Take steps as one of a batcher's workers does."""
    while True:
        if turns := stepper.take():
            await stepper.run(turns)
        await asyncio.sleep(0.001)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110 - of other threads
            await asyncio.sleep(0.002)


async def test_streams_in_doubt_go_alone_one_at_a_time_and_let_others_go_in_between() -> None:
    async def nothing_wrong(steps: Sequence[Step], sounds: Sequence[Waveform]) -> Sequence[Live | None]:
        del sounds
        return [NOTHING for _ in steps]

    stepper = Stepper(nothing_wrong, INFO, Places(room({}, 2, 0.7, 9, on_cpu=True)), asyncio.Event(), LaneMeters())

    def put(*streams: int, alone: bool) -> None:
        for stream in streams:
            stepper.put(Step(stream, 0.5, first=False, cut=False, last=False), SOUND, alone=alone)

    def numbers(turns: Sequence[Turn]) -> list[int]:
        return [turn.step.stream for turn in turns]

    put(1, 2, alone=True)
    put(11, 12, alone=False)
    in_doubt = stepper.take()
    assert numbers(in_doubt) == [1]
    assert numbers(stepper.take()) == [11, 12]
    assert stepper.take() == [], "the other one waits until the first has been heard"
    await stepper.run(in_doubt)
    assert numbers(stepper.take()) == [2]


@pytest.mark.parametrize("steps_before", [0, 1])
async def test_who_hangs_up_within_a_step_leaves_no_state_behind(steps_before: int) -> None:
    engine, threads = Gated(), ThreadPoolExecutor(2)
    table = StreamTable(engine)

    async def take_steps(steps: Sequence[Step], sounds: Sequence[Waveform]) -> Sequence[Live | None]:
        return await asyncio.get_running_loop().run_in_executor(threads, table.step, steps, sounds)

    places = Places(room({}, 2, 0.7, 4, on_cpu=True))
    stepper = Stepper(take_steps, INFO, places, asyncio.Event(), LaneMeters())
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work(stepper)) for _ in range(2)]
        async with stepper.stream(0.5, Ears(nobody, INFO, Options(), None)) as stream:
            engine.gate.set()
            for _ in range(steps_before):
                await stream.hear(SOUND)
            engine.gate.clear()
            engine.entered.clear()
            hearing = tasks.create_task(stream.hear(SOUND))
            await until(engine.entered.is_set)
            hearing.cancel()
        await asyncio.sleep(0.05)
        assert len(table) == 1, "it is still in a step"
        engine.gate.set()
        await until(lambda: not len(table))
        for worker in working:
            worker.cancel()
    assert places.open.total() == 0


async def test_who_shares_a_step_is_told_a_few_at_a_time_so_that_others_come_in_between() -> None:
    async def hear(steps: Sequence[Step], sounds: Sequence[Waveform]) -> list[Live | None]:
        del steps
        return [NOTHING for _ in sounds]

    stepper = Stepper(hear, INFO, Places(room({}, 1, 1.0, 0, on_cpu=True)), asyncio.Event(), LaneMeters())
    told = [stepper.put(Step(number, 0.5, first=True, cut=False, last=False), SOUND) for number in range(3 * AT_ONCE)]
    await stepper.run(stepper.take())
    seen: list[int] = []
    while not seen or seen[-1] < len(told):
        seen.append(sum(one.done() for one in told))
        await asyncio.sleep(0)
    assert seen == [AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE]


def turns_of(*seconds: float) -> list[Turn]:
    loop = asyncio.new_event_loop()
    try:
        steps = [Step(number, 0.5, first=False, cut=False, last=False) for number in range(len(seconds))]
        return [Turn(step, SOUND, loop.create_future(), spent) for step, spent in zip(steps, seconds, strict=True)]
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ([0.003] * 40, 32),  # a quick model
        ([0.04] * 8, 3),
        ([0.5, 0.5, 0.5], 2),  # a slow one
        ([0.1, 0.0, 0.0, 0.1, 0.0, 0.1], 5),  # most bring no whole chunk
        ([0.0] * 40, 32),
        ([], 0),
    ],
)
def test_a_step_takes_as_many_as_it_can_hear_soon(seconds: list[float], taken: int) -> None:
    waiting = turns_of(*seconds)
    assert fitting(waiting, 32) == waiting[:taken]


def test_of_a_large_model_few_chunks_go_together() -> None:
    waiting = turns_of(0.01, 0.0, 0.01, 0.0, 0.01, 0.0, 0.0, 0.01, 0.01)
    assert fitting(waiting, 3) == waiting[:7], "those without a chunk are no burden"
    for turn in waiting[4:]:
        turn.step = replace(turn.step, look_ahead=1.0)
    assert fitting(waiting, 3) == waiting, "each look-ahead is a run of its own"


async def test_what_a_step_takes_is_known_by_the_chunks_that_are_complete() -> None:
    async def nothing_wrong(steps: Sequence[Step], sounds: Sequence[Waveform]) -> Sequence[Live | None]:
        del sounds
        return [NOTHING for _ in steps]

    places = Places(room({0.5: 0.1}, 2, 0.7, 9, on_cpu=False))
    stepper = Stepper(nothing_wrong, INFO, places, asyncio.Event(), LaneMeters())
    spent: list[float] = []

    async def note() -> None:
        while True:
            if turns := stepper.take():
                spent.extend(turn.seconds for turn in turns)
                await stepper.run(turns)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(note())
        async with stepper.stream(0.5, Ears(nobody, INFO, Options(), None)) as stream:
            for _ in range(20):  # 2 s in chunks of 0.58 s
                await stream.hear(SOUND)
            await stream.finish()
        working.cancel()
    assert [place for place, seconds in enumerate(spent) if seconds] == [5, 11, 17, 20]
    assert spent[5] == pytest.approx(0.058)
