import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Event

import numpy as np
import pytest

from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError, OverloadedError
from nautilus.runtime.answer import Answer, answer
from nautilus.runtime.batcher import Batcher
from nautilus.runtime.queue import BatchLimits
from nautilus.types import SAMPLE_RATE, Claim, Hypothesis, Options, Priority, Waveform

EN = Options(language="en")
JOB = Claim(Priority.JOB)
LIMITS = BatchLimits(workers=1, max_items=4, max_waiting=8, max_padding=0.25)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


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


async def test_an_answer_reaches_its_own_caller() -> None:
    async with serving(FakeEngine()) as batcher:
        lengths = (3, 1, 2)
        heard = await asyncio.gather(*(batcher.submit(silence(n), EN, Claim()) for n in lengths))
        assert [len(one.hypothesis.words) for one in heard] == [3, 1, 2]


async def test_a_short_waveform_is_heard_with_quiet_around_it_and_keeps_its_times() -> None:
    engine = RecordingEngine()
    async with serving(engine) as batcher:
        short, long = np.ones(SAMPLE_RATE // 2, np.float32), np.ones(2 * SAMPLE_RATE, np.float32)
        heard = [await batcher.submit(sound, EN, Claim()) for sound in (short, long)]
    assert [len(sound) / SAMPLE_RATE for sound in engine.heard] == [1.1, 2.0]
    assert not engine.heard[0][:4800].any()
    words = [[(word.start, word.end) for word in one.hypothesis.words] for one in heard]
    assert words == [[(0.0, pytest.approx(0.45))], [(0.25, 0.75), (1.25, 1.75)]]  # at 0.25 to 0.75 of what was heard


async def test_what_waits_while_the_engine_is_busy_leaves_as_one_batch() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(batcher.submit(silence(1), EN, Claim()))
            await asyncio.sleep(0)
        engine.gate.set()
    assert engine.batches == [1, 3]


async def test_free_workers_share_what_waits_and_busy_ones_are_left_half_a_share() -> None:
    engine = GatedEngine()
    async with serving(engine, replace(LIMITS, workers=2, max_items=8)) as batcher, asyncio.TaskGroup() as tasks:
        for together in (4, 6):  # the first ones find both workers free
            for _ in range(together):
                tasks.create_task(batcher.submit(silence(1), EN, Claim()))
            await asyncio.sleep(0.01)
        engine.gate.set()
    assert sorted(engine.batches) == [2, 2, 2, 4]


@pytest.mark.parametrize(("packed", "padding"), [(False, 1.0), (True, 0.0)])
async def test_padding_is_counted_where_it_is_heard(packed: bool, padding: float) -> None:
    engine = FakeEngine()
    engine.info = replace(engine.info, packed=packed)
    async with serving(engine, replace(LIMITS, max_padding=0.5)) as batcher:
        await asyncio.gather(*(batcher.submit(silence(seconds), EN, Claim()) for seconds in (3, 2)))
        meters = batcher.state().meters
    assert (meters.audio.value, meters.padding.value) == (5.0, padding)


async def test_a_worker_has_its_next_batch_before_the_last_one_is_read() -> None:
    happened: list[str] = []

    class Told(list[Hypothesis]):
        def __iter__(self) -> Iterator[Hypothesis]:
            happened.append("read")
            return super().__iter__()

    async def transcribe(batch: Sequence[Waveform], options: Options) -> Answer:
        happened.append("asked")
        await asyncio.sleep(0)
        return Answer(Told(FakeEngine().transcribe(batch, options)), 0.0, 0.0)

    batcher = Batcher(FakeEngine().info, transcribe, replace(LIMITS, max_items=1))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(batcher.serve())
        heard = await asyncio.gather(*(batcher.submit(silence(1), EN, Claim()) for _ in range(2)))
        serving.cancel()
    assert [len(one.hypothesis.words) for one in heard] == [1, 1]
    assert happened == ["asked", "asked", "read", "read"]


async def test_a_full_queue_refuses_and_says_when_to_retry() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        for _ in range(1 + LIMITS.max_waiting):
            tasks.create_task(batcher.submit(silence(1), EN, Claim()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal:
            await batcher.submit(silence(1), EN, Claim())
        assert refusal.value.retry_after > 0
        engine.gate.set()


async def test_what_has_begun_is_never_refused() -> None:
    engine = GatedEngine()
    async with serving(engine, replace(LIMITS, max_waiting=0)) as batcher:
        engine.gate.set()
        heard = await batcher.submit(silence(2), EN, Claim(), admitted=True)
        assert len(heard.hypothesis.words) == 2


async def test_a_bad_clip_fails_alone() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher:
        bad = silence(1)
        bad[0] = np.nan
        clips = [silence(1), silence(2), bad, silence(2)]
        asked = [asyncio.gather(batcher.submit(clip, EN, Claim()), return_exceptions=True) for clip in clips]
        await asyncio.sleep(0)
        engine.gate.set()
        answers = [(await one)[0] for one in asked]
    assert [isinstance(answer, EngineError) for answer in answers] == [False, False, True, False]


async def test_who_gets_no_answer_is_told() -> None:
    class Forgetful(FakeEngine):
        def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            return super().transcribe(batch, options)[1:]

    async with serving(Forgetful()) as batcher:
        asked = (batcher.submit(silence(1), EN, Claim()) for _ in range(3))
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["The model failed: It answered 0 of 1 waveforms."] * 3


async def test_a_caller_who_leaves_does_not_disturb_the_others() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(batcher.submit(silence(1), EN, Claim()))
        await asyncio.sleep(0.01)
        leaving, staying = (tasks.create_task(batcher.submit(silence(2), EN, Claim())) for _ in range(2))
        await asyncio.sleep(0.01)
        leaving.cancel()
        engine.gate.set()
        assert [len((await one).hypothesis.words) for one in (running, staying)] == [1, 2]
    assert engine.batches == [1, 1]


async def test_one_worker_of_two_is_kept_free_of_jobs_for_a_while_after_a_request() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with serving(engine, replace(LIMITS, workers=2, max_items=1, reserve_seconds=0.2)) as batcher:
        await batcher.submit(silence(1), EN, Claim())
        engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(batcher.submit(silence(1), EN, JOB))
            await asyncio.sleep(0.05)
            assert batcher.state().running == 1
            tasks.create_task(batcher.submit(silence(1), EN, Claim()))
            await asyncio.sleep(0.05)
            assert batcher.state().running == 2
            engine.gate.set()


async def test_the_kept_worker_takes_jobs_again_when_no_requests_come() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with serving(engine, replace(LIMITS, workers=2, max_items=1, reserve_seconds=0.1)) as batcher:
        await batcher.submit(silence(1), EN, Claim())
        engine.gate.clear()
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(3):
            for _ in range(2):
                tasks.create_task(batcher.submit(silence(1), EN, JOB))
            while batcher.state().running < 2:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0.01)
            engine.gate.set()


async def test_what_would_wait_for_too_long_is_refused_as_soon_as_the_pace_is_known() -> None:
    engine = GatedEngine()
    engine.gate.set()
    async with serving(engine, replace(LIMITS, max_wait=1e-9)) as batcher:
        await batcher.submit(silence(1), EN, Claim())
        engine.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(batcher.submit(silence(1), EN, Claim(), admitted=True))
                await asyncio.sleep(0.01)
            with pytest.raises(OverloadedError):
                batcher.check(Claim())
            batcher.check(Claim(owner="somebody else"))
            batcher.check(JOB)
            engine.gate.set()


async def test_at_the_end_every_waiting_caller_is_told() -> None:
    engine = GatedEngine()
    async with serving(engine) as batcher:
        submitted = [batcher.submit(silence(1), EN, Claim()) for _ in range(2)]
        waiting = asyncio.gather(*submitted, return_exceptions=True)
        await asyncio.sleep(0.01)
    engine.gate.set()
    assert [type(answer) for answer in await waiting] == [EngineError, EngineError]
    with pytest.raises(EngineError):
        await batcher.submit(silence(1), EN, Claim())
