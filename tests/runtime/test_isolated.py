"""Real processes throughout: what a model does to its process never reaches the server."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.base import Engine, Live, Report
from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError, ModelDiedError, ModelLoadError, OverloadedError, UnsupportedError
from nautilus.runtime.calibrate import MANY, Sizing
from nautilus.runtime.isolated import ModelProcess as Process
from nautilus.runtime.isolated import Supervisor, open_isolated_lane
from nautilus.runtime.lane import Lane
from nautilus.runtime.local import serving
from nautilus.runtime.model_process import Job, begun_ahead
from nautilus.runtime.queue import BatchLimits
from nautilus.types import SAMPLE_RATE, Claim, Hypothesis, Options, Token, Waveform, Word
from tests.engines.sounds import sample

LIMITS = BatchLimits(workers=2, max_items=4, max_padding=0.5)
POISON = 7.0
"""A sample that kills the process that hears it."""
BAD = 3.0
"""A sample that the model refuses."""


class Mortal(FakeEngine):
    """Hears one word a second, and dies of poison."""

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        for waveform in batch:
            if POISON in waveform[:1]:
                os.kill(os.getpid(), signal.SIGKILL)
            if BAD in waveform[:1]:
                raise ValueError("cannot hear that")
        return super().transcribe(batch, options)


class Wordy(FakeEngine):
    """Answers with everything that a hypothesis can hold."""

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        word = Word(" ".join(options.keywords), 0.25, 0.5, 0.75, (Token("to", -0.5), Token("ken", -1.5)))
        return [Hypothesis("text", (word,), options.language)] * len(batch)


def load(kind: type[FakeEngine], report: Report) -> Engine:
    report("reading weights")
    return kind()


def refuse(report: Report) -> Engine:
    del report
    raise ModelLoadError("There are no such weights.")


def load_once(mark: Path, report: Report) -> Engine:
    if mark.exists():
        refuse(report)
    mark.touch()
    return FakeEngine()


def die(report: Report) -> Engine:
    del report
    os._exit(3)


async def kill(process: Process) -> None:
    process.kill()


def job(tmp_path: Path, kind: type[FakeEngine] = Mortal) -> Job:
    return Job(
        partial(load, kind),
        Sizing(LIMITS.workers, LIMITS.max_items, step_streams=MANY),
        tmp_path / "sizing.json",
        "error",
        "json",
    )


@asynccontextmanager
async def lane_of(job: Job) -> AsyncIterator[Lane]:
    async with open_isolated_lane(job, LIMITS, lambda _: None) as lane:
        yield lane


def clip(seconds: float, first: float = 0.0) -> Waveform:
    waveform = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    waveform[:1] = first
    return waveform


async def words(lane: Lane, waveform: Waveform) -> int:
    return len((await lane.submit(waveform, Options(), Claim())).hypothesis.words)


async def test_every_caller_gets_its_own_answer(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path)) as lane:
        lengths = [1, 3, 2, 70, 5, 1]
        assert await asyncio.gather(*(words(lane, clip(seconds)) for seconds in lengths)) == lengths


async def test_a_hypothesis_comes_over_whole(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path, Wordy)) as lane:
        options = Options(language="de", keywords=("sudden", "death"))
        heard = (await lane.submit(clip(1), options, Claim())).hypothesis
        assert [heard] == Wordy().transcribe([clip(1)], options)


async def test_loading_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[str] = []
    async with open_isolated_lane(job(tmp_path), LIMITS, told.append) as lane:
        assert lane.info == FakeEngine().info
    assert told == ["reading weights", "sizing batches"]


@pytest.mark.parametrize(
    ("loader", "reason"), [(refuse, "There are no such weights"), (die, "died while loading .*exit code 3")]
)
async def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path, loader: object, reason: str) -> None:
    broken = Job(loader, Sizing(1, 1), tmp_path / "sizing.json", "critical", "json")  # type: ignore[arg-type]
    with pytest.raises(ModelLoadError, match=reason):
        async with lane_of(broken):
            pass


async def test_who_loads_what_was_begun_ahead_gets_that_process(tmp_path: Path) -> None:
    once = replace(job(tmp_path), load=partial(load_once, tmp_path / "loaded"))
    with begun_ahead(once):
        async with lane_of(once) as lane:
            assert await words(lane, clip(2)) == 2
        with pytest.raises(ModelLoadError, match="no such weights"):  # a second time it is loaded anew
            async with lane_of(once):
                pass


def test_what_was_begun_ahead_for_nobody_ends(tmp_path: Path) -> None:
    children = Path("/proc/thread-self/children")
    before = children.read_text().split()
    with begun_ahead(job(tmp_path)):
        assert len(children.read_text().split()) == len(before) + 1
    assert children.read_text().split() == before


async def test_what_a_model_refuses_fails_alone(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path)) as lane:
        clips = [clip(1), clip(1, BAD), clip(2), clip(2)]
        answers = await asyncio.gather(*(words(lane, one) for one in clips), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [1, 2, 2]
        assert "cannot hear that" in str(answers[1])


async def test_what_kills_the_process_fails_alone_and_the_next_one_is_served(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path)) as lane:
        clips = [clip(1), clip(2), clip(2, POISON), clip(2), clip(1)]
        answers = await asyncio.gather(*(words(lane, one) for one in clips), return_exceptions=True)
        assert isinstance(answers[2], EngineError)
        assert [answer for answer in answers if isinstance(answer, int)] == [1, 2, 2, 1]
        assert await words(lane, clip(3)) == 3


async def test_a_process_killed_from_outside_costs_nobody_anything(tmp_path: Path) -> None:
    supervisor = Supervisor(job(tmp_path), await Process.start(job(tmp_path), lambda _: None))
    try:
        first = supervisor.process
        first.kill()
        assert [len(one.words) for one in (await supervisor.transcribe([clip(2)], Options())).hypotheses] == [2]
        assert supervisor.process is not first
    finally:
        supervisor.end()


async def test_who_waits_behind_a_suspect_that_kills_once_more_is_heard(tmp_path: Path) -> None:
    supervisor = Supervisor(job(tmp_path), await Process.start(job(tmp_path), lambda _: None))
    try:
        async with asyncio.TaskGroup() as tasks:
            both = asyncio.gather(
                supervisor.transcribe([clip(1, POISON)], Options()),
                supervisor.transcribe([clip(2)], Options()),
                return_exceptions=True,
            )
            tasks.create_task(kill(supervisor.process))  # with both in it
            guilty, innocent = await both
        assert isinstance(guilty, ModelDiedError)
        assert not isinstance(innocent, BaseException)
        assert [len(one.words) for one in innocent.hypotheses] == [2]
    finally:
        supervisor.end()


async def test_a_process_that_cannot_be_started_again_is_tried_with_every_batch(tmp_path: Path) -> None:
    once = Job(partial(load_once, tmp_path / "loaded"), Sizing(1, 1), tmp_path / "sizing.json", "critical", "json")
    supervisor = Supervisor(once, await Process.start(once, lambda _: None))
    try:
        supervisor.process.kill()
        for _ in range(2):
            with pytest.raises(EngineError, match="no such weights"):
                await supervisor.transcribe([clip(1)], Options())
        (tmp_path / "loaded").unlink()
        assert len((await supervisor.transcribe([clip(1)], Options())).hypotheses) == 1
    finally:
        supervisor.end()


class Counting(FakeEngine):
    """A streaming engine that hears a word in every second, refuses what is bad, and dies of poison."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, look_aheads=(0.5,))

    def open(self, look_ahead: float, /) -> list[Waveform]:
        assert look_ahead == 0.5
        return []

    def step(self, batch: Sequence[tuple[list[Waveform], Waveform]], /) -> list[Live]:
        for state, sound in batch:
            if POISON in sound:
                os.kill(os.getpid(), signal.SIGKILL)
            if BAD in sound:
                raise ValueError("cannot hear that")
            state.append(sound)
        return [self.finish(state) for state, _ in batch]

    def cut(self, state: list[Waveform], /) -> None:
        state.clear()

    def finish(self, state: list[Waveform], /) -> Live:
        seconds = sum(map(len, state)) // SAMPLE_RATE
        words = tuple(Word(str(number), number, number + 0.5, 1.0) for number in range(seconds))
        return Live(Hypothesis(" ".join(word.text for word in words), words), seconds, 0.0)


async def test_streams_take_steps_together_and_each_hears_its_own(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path, Counting)) as lane, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(lane.stream(0.5, Options())) for _ in range(5)]
        for _ in range(2):
            lives = await asyncio.gather(*(one.hear(clip(number)) for number, one in enumerate(streams)))
        assert [len(live.hypothesis.words) for live in lives] == [0, 2, 4, 6, 8]


async def test_a_stream_outlives_the_process_that_heard_it(tmp_path: Path) -> None:
    supervisor = Supervisor(job(tmp_path, Counting), await Process.start(job(tmp_path, Counting), lambda _: None))
    ready = supervisor.process.ready
    try:
        async with (
            serving(supervisor.transcribe, supervisor.take_steps, ready.info, ready.sizing, LIMITS) as lane,
            lane.stream(0.5, Options()) as stream,
        ):
            await stream.cut(await stream.hear(clip(2)))
            await stream.hear(clip(1))
            supervisor.process.kill()
            live = await stream.hear(clip(3))
            assert [word.start for word in live.hypothesis.words] == [2.0, 3.0, 4.0, 5.0]
            assert live.until == 6.0
    finally:
        supervisor.end()


async def test_an_utterance_that_is_heard_again_and_again_outlives_the_process_as_well(tmp_path: Path) -> None:
    supervisor = Supervisor(job(tmp_path), await Process.start(job(tmp_path), lambda _: None))
    ready = supervisor.process.ready
    try:
        async with (
            serving(supervisor.transcribe, supervisor.take_steps, ready.info, ready.sizing, LIMITS) as lane,
            lane.stream(lane.info.waits[-1], Options()) as stream,
        ):
            await stream.hear(sample()[:30_000])
            supervisor.process.kill()
            await stream.hear(sample()[30_000:])
            live = await stream.finish()
            assert [word.text for word in live.hypothesis.words] == ["zero", "one", "two"]
    finally:
        supervisor.end()


@pytest.mark.parametrize("sample", [BAD, POISON])
@pytest.mark.parametrize("place", [0, 2, 4])
async def test_a_step_that_fails_harms_only_the_stream_that_it_fails_for(
    tmp_path: Path, sample: float, place: int
) -> None:
    async with lane_of(job(tmp_path, Counting)) as lane, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(lane.stream(0.5, Options())) for _ in range(5)]
        for one in streams:
            live = await one.hear(clip(1))
            await one.cut(live)
            await one.hear(clip(1))
        sounds = [clip(1, sample if number == place else 0.0) for number in range(5)]
        asked = (one.hear(sound) for one, sound in zip(streams, sounds, strict=True))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers.pop(place), EngineError)
        del streams[place]
        for _ in range(2):  # and no state has taken a step twice
            seconds = [[word.start for word in answer.hypothesis.words] for answer in answers]  # type: ignore[union-attr]
            assert seconds == [[1.0 + second for second in range(len(seconds[0]))]] * 4
            answers = [*await asyncio.gather(*(one.hear(clip(1)) for one in streams))]
        assert len(seconds[0]) == 3
        assert lane.state().meters.restarts.value == (2 if sample == POISON else 0)


async def test_no_more_streams_than_there_are_places(tmp_path: Path) -> None:
    async with open_isolated_lane(job(tmp_path, Counting), replace(LIMITS, max_streams=2), lambda _: None) as lane:
        async with lane.stream(0.5, Options()), lane.stream(0.5, Options()):
            with pytest.raises(OverloadedError):
                async with lane.stream(0.5, Options()):
                    pass
        async with lane.stream(0.5, Options()):
            pass


async def test_what_a_model_cannot_hear_live_is_refused(tmp_path: Path) -> None:
    async with lane_of(job(tmp_path, Counting)) as lane:
        with pytest.raises(UnsupportedError, match=r"look_ahead must be one of 0\.5"):
            async with lane.stream(0.4, Options()):
                pass
        with pytest.raises(UnsupportedError, match="does not know the language 'de'"):
            async with lane.stream(0.5, Options(language="de")):
                pass


async def test_unloading_ends_the_process(tmp_path: Path) -> None:
    supervisor = Supervisor(job(tmp_path), await Process.start(job(tmp_path), lambda _: None))
    assert supervisor.process.alive
    supervisor.end()
    assert supervisor.process.exit_code == -signal.SIGKILL
