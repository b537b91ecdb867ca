import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Event

import numpy as np
import pytest

from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError, OverloadedError
from nautilus.runtime.answer import Answer, answer
from nautilus.runtime.batcher import Batcher, BatchLimits, Ticket, take
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Priority, Waveform

EN, DE = Options(language="en"), Options(language="de")
LIMITS = BatchLimits(workers=1, max_items=4, max_waiting=8, max_padding=0.25)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def tickets(*places: tuple[Priority, float, Options]) -> list[Ticket]:
    loop = asyncio.get_running_loop()
    made = [
        Ticket(priority, number, silence(seconds), options, 0.0, loop.create_future())
        for number, (priority, seconds, options) in enumerate(places)
    ]
    return sorted(made, key=lambda ticket: ticket.place)


def numbers(batch: Sequence[Ticket]) -> list[int]:
    return [ticket.number for ticket in batch]


class GatedEngine(FakeEngine):
    """Hears nothing until its gate opens, and notes the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Event()
        self.batches: list[int] = []

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        self.gate.wait(5)
        self.batches.append(len(batch))
        return super().transcribe(batch, options)


class RecordingEngine(FakeEngine):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Waveform] = []

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        self.heard += [waveform.copy() for waveform in batch]
        return super().transcribe(batch, options)


@asynccontextmanager
async def serving(engine: FakeEngine, limits: BatchLimits = LIMITS) -> AsyncIterator[Batcher]:
    threads = ThreadPoolExecutor(limits.workers)

    async def transcribe(batch: Sequence[Waveform], options: Options) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, answer, engine, batch, options)

    batcher = Batcher(engine.info, transcribe, limits)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(batcher.serve())
        yield batcher
        task.cancel()
    threads.shutdown(wait=False)


async def test_live_goes_before_requests_and_requests_before_jobs() -> None:
    waiting = tickets((Priority.JOB, 1, EN), (Priority.REQUEST, 1, EN), (Priority.LIVE, 1, EN))
    assert [numbers(take(waiting, LIMITS, 4)) for _ in range(4)] == [[2], [1], [0], []]


async def test_only_equal_options_share_a_batch() -> None:
    waiting = tickets(*[(Priority.REQUEST, 1, options) for options in (EN, DE, EN)])
    assert [numbers(take(waiting, LIMITS, 4)) for _ in range(2)] == [[0, 2], [1]]


async def test_neighbours_are_of_similar_length() -> None:
    waiting = tickets(*[(Priority.REQUEST, seconds, EN) for seconds in (4, 20, 4.1, 19, 4.2)])
    assert [numbers(take(waiting, LIMITS, 4)) for _ in range(2)] == [[0, 2, 4], [1, 3]]


async def test_the_padding_budget_ends_a_batch_but_never_refuses_the_first() -> None:
    waiting = tickets(*[(Priority.REQUEST, 10, EN)] * 3)
    limits = replace(LIMITS, max_seconds=20)
    assert [numbers(take(waiting, limits, 4)) for _ in range(2)] == [[0, 1], [2]]
    assert numbers(take(tickets((Priority.REQUEST, 30, EN)), limits, 4)) == [0]


async def test_a_worker_takes_no_more_than_its_share() -> None:
    waiting = tickets(*[(Priority.REQUEST, 1, EN)] * 4)
    assert numbers(take(waiting, LIMITS, 2)) == [0, 1]


async def test_abandoned_tickets_are_dropped() -> None:
    waiting = tickets(*[(Priority.REQUEST, 1, EN)] * 2)
    waiting[0].result.cancel()
    assert numbers(take(waiting, LIMITS, 4)) == [1]
    assert waiting == []


async def test_an_answer_reaches_its_own_caller() -> None:
    async with serving(FakeEngine()) as batcher:
        lengths = (3, 1, 2)
        heard = await asyncio.gather(*(batcher.submit(silence(n), EN, Priority.REQUEST) for n in lengths))
        assert [len(one.hypothesis.words) for one in heard] == [3, 1, 2]


async def test_a_short_waveform_is_heard_with_quiet_around_it_and_keeps_its_times() -> None:
    engine = RecordingEngine()
    async with serving(engine) as batcher:
        short, long = np.ones(SAMPLE_RATE // 2, np.float32), np.ones(2 * SAMPLE_RATE, np.float32)
        heard = [await batcher.submit(sound, EN, Priority.REQUEST) for sound in (short, long)]
    assert [len(sound) / SAMPLE_RATE for sound in engine.heard] == [1.1, 2.0]
    assert not engine.heard[0][:4800].any()
    words = [[(word.start, word.end) for word in one.hypothesis.words] for one in heard]
    assert words == [[(0.0, pytest.approx(0.45))], [(0.25, 0.75), (1.25, 1.75)]]  # at 0.25 to 0.75 of what was heard


async def test_what_waits_while_the_engine_is_busy_leaves_as_one_batch() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(batcher.submit(silence(1), EN, Priority.REQUEST))
            await asyncio.sleep(0)
        engine.gate.set()
    assert engine.batches == [1, 3]


async def test_a_full_queue_refuses_and_says_when_to_retry() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        for _ in range(1 + LIMITS.max_waiting):
            tasks.create_task(batcher.submit(silence(1), EN, Priority.REQUEST))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal:
            await batcher.submit(silence(1), EN, Priority.REQUEST)
        assert refusal.value.retry_after > 0
        engine.gate.set()


async def test_what_has_begun_is_never_refused() -> None:
    engine = GatedEngine()
    async with serving(engine, replace(LIMITS, max_waiting=0)) as batcher:
        engine.gate.set()
        heard = await batcher.submit(silence(2), EN, Priority.REQUEST, admitted=True)
        assert len(heard.hypothesis.words) == 2


async def test_a_bad_clip_fails_alone() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher:
        bad = silence(1)
        bad[0] = np.nan
        clips = [silence(1), silence(2), bad, silence(2)]
        asked = [asyncio.gather(batcher.submit(clip, EN, Priority.REQUEST), return_exceptions=True) for clip in clips]
        await asyncio.sleep(0)
        engine.gate.set()
        answers = [(await one)[0] for one in asked]
    assert [isinstance(answer, EngineError) for answer in answers] == [False, False, True, False]


async def test_a_caller_who_leaves_does_not_disturb_the_others() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(batcher.submit(silence(1), EN, Priority.REQUEST))
        await asyncio.sleep(0.01)
        leaving, staying = (tasks.create_task(batcher.submit(silence(2), EN, Priority.REQUEST)) for _ in range(2))
        await asyncio.sleep(0.01)
        leaving.cancel()
        engine.gate.set()
        assert [len((await one).hypothesis.words) for one in (running, staying)] == [1, 2]
    assert engine.batches == [1, 1]


async def test_at_the_end_every_waiting_caller_is_told() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher:
        submitted = [batcher.submit(silence(1), EN, Priority.REQUEST) for _ in range(2)]
        waiting = asyncio.gather(*submitted, return_exceptions=True)
        await asyncio.sleep(0.01)
    engine.gate.set()
    assert [type(answer) for answer in await waiting] == [EngineError, EngineError]
    with pytest.raises(EngineError):
        await batcher.submit(silence(1), EN, Priority.REQUEST)
