import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
from structlog.testing import capture_logs

from nautilus.engines.base import EngineInfo, Live
from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError, ModelLoadError, NautilusError
from nautilus.runtime.lane import Heard, Lane, Stream
from nautilus.stream.second import SecondPass
from nautilus.stream.service import Clear, Command, Commit
from nautilus.stream.session import Committed, Event, Final, Partial, SpeechStarted
from nautilus.types import SAMPLE_RATE, Claim, Hypothesis, Options, Priority, Waveform, Word
from tests.stream.talk import finals, talk

SECOND = np.ones(SAMPLE_RATE, np.float32) * 0.5


class Quick:
    """Hears a word in every second of sound, and silence in zeros."""

    chunk = SAMPLE_RATE

    def __init__(self) -> None:
        self._words: list[Word] = []
        self._seconds = 0
        self._silence = 0.0

    async def hear(self, sound: Waveform, /) -> Live:
        for _ in range(len(sound) // SAMPLE_RATE):
            spoken = bool(sound.any())
            if spoken:
                self._words.append(Word(f"w{self._seconds}", self._seconds + 0.2, self._seconds + 0.8, 0.5))
            self._silence = 0.0 if spoken else self._silence + 1.0
            self._seconds += 1
        return self._live()

    async def cut(self, live: Live, /) -> Live:
        self._words = []
        return live

    async def finish(self) -> Live:
        live, self._words = self._live(), []
        return live

    def _live(self) -> Live:
        words = tuple(self._words)
        return Live(Hypothesis(" ".join(word.text for word in words), words), float(self._seconds), self._silence)


class Slow:
    """A lane that answers what it heard when it is let, or fails."""

    def __init__(self, error: NautilusError | None = None) -> None:
        self.info: EngineInfo = FakeEngine().info
        self.gate = asyncio.Event()
        self.gate.set()
        self.heard: list[float] = []
        self._error = error

    async def submit(self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False) -> Heard:
        assert (claim.priority, admitted) == (Priority.LIVE, True)
        self.heard.append(len(audio) / SAMPLE_RATE)
        await self.gate.wait()
        if self._error:
            raise self._error
        (hypothesis,) = FakeEngine().transcribe([audio], options)
        return Heard(hypothesis, 0.0, 0.0)

    def stream(self, wait: float, options: Options, /) -> "AsyncIterator[Stream]":
        raise NotImplementedError


def second(lane: Slow, at_most: float = 5.0) -> SecondPass:
    @asynccontextmanager
    async def lease() -> AsyncIterator[Lane]:
        yield lane  # type: ignore[misc]  # it opens no streams

    return SecondPass(lease, Options(), ThreadPoolExecutor(1), at_most)


def said(*seconds: int) -> list[Command]:
    """Say something for so many seconds each time, with a second of silence after."""
    return [sound for count in seconds for sound in (np.tile(SECOND, count), SECOND * 0)]


async def test_partials_come_from_the_first_pass_and_finals_from_the_second() -> None:
    events = await talk(Quick(), said(2, 3), second=second(Slow()))
    assert [type(event) for event in events] == [
        SpeechStarted,
        *[Partial] * 2,
        Final,
        SpeechStarted,
        *[Partial] * 3,
        Final,
    ]
    assert next(word.text for event in events if isinstance(event, Partial) for word in event.words) == "w0"
    assert finals(events) == ["zero one two", "zero one two three"]


async def test_times_are_the_stream_s_and_only_the_utterance_is_heard_again() -> None:
    lane = Slow()
    events = await talk(Quick(), [*[SECOND * 0] * 5, *said(2)], second=second(lane))
    (final,) = [event for event in events if isinstance(event, Final)]
    assert lane.heard == [pytest.approx(8.0 - (5.2 - 0.5))]
    assert final.words[0].start == pytest.approx(4.7 + 0.25)
    assert final.until == 8.0


async def test_a_commit_and_the_end_are_heard_again_and_what_is_cleared_is_not() -> None:
    lane = Slow()
    commands: list[Command] = [SECOND, SECOND, Commit(), SECOND, Clear(), SECOND, SECOND, SECOND]
    events = await talk(Quick(), commands, second=second(lane))
    assert finals(events) == ["zero one", "zero one two"]
    assert lane.heard == [pytest.approx(2.0), pytest.approx(3.0)]
    committed = [event for event in events if isinstance(event, Committed)]
    assert [(event.utterance, event.cleared) for event in committed] == [(0, False), (None, True)]


async def test_finals_keep_their_order_and_sound_is_heard_while_the_second_pass_is_at_it() -> None:
    lane = Slow()
    lane.gate.clear()
    told: list[Event] = []
    async with asyncio.TaskGroup() as tasks:
        talking = tasks.create_task(talk(Quick(), said(2, 2, 2), second=second(lane)))
        async with asyncio.timeout(5):
            while len(lane.heard) < 3:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.001)
        assert not talking.done()
        lane.gate.set()
        told = await talking
    numbers = [event.utterance for event in told if isinstance(event, SpeechStarted | Partial | Final)]
    assert numbers == sorted(numbers)
    assert len(finals(told)) == 3


@pytest.mark.parametrize("error", [EngineError("it broke"), ModelLoadError("it is not there")])
async def test_when_the_second_pass_fails_the_first_one_s_words_are_final(error: NautilusError) -> None:
    with capture_logs() as logs:
        events = await talk(Quick(), said(2), second=second(Slow(error)))
    assert finals(events) == ["w0 w1"]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("second pass failed", "warning")]


async def test_a_second_pass_that_takes_too_long_is_not_waited_for() -> None:
    lane = Slow()
    lane.gate.clear()
    with capture_logs() as logs:
        events = await talk(Quick(), said(2, 3), second=second(lane, at_most=0.05))
    assert finals(events) == ["w0 w1", "w3 w4 w5"]
    assert [entry["event"] for entry in logs] == ["second pass took too long"] * 2


async def test_a_second_pass_that_hears_nothing_corrects_nothing() -> None:
    class Deaf(Slow):
        async def submit(self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False) -> Heard:
            del audio, options, claim, admitted
            return Heard(Hypothesis(""), 0.0, 0.0)

    assert finals(await talk(Quick(), said(2), second=second(Deaf()))) == ["w0 w1"]
