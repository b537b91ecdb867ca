"""What a stream promises whose model hears each utterance again and again, beyond what every stream does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from nautilus.engines.base import Engine, Live
from nautilus.engines.bundle import Bundle
from nautilus.engines.fake import FakeEngine
from nautilus.engines.onnx import OnnxEngine
from nautilus.errors import EngineError, OverloadedError
from nautilus.runtime.answer import Answer, answer
from nautilus.runtime.batcher import Batcher
from nautilus.runtime.lane import Stream
from nautilus.runtime.local import open_local_lane
from nautilus.runtime.queue import BatchLimits
from nautilus.stream.service import Commit
from nautilus.stream.session import Final, Partial, StreamLimits
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform, Word
from tests.engines.models import TinyModels
from tests.engines.sounds import noise, sample, silence, speech_clips
from tests.stream.talk import finals, pieces, talk

HEARD = "set a timer for fifteen minutes and play the next song"
LIMITS = BatchLimits(workers=1, max_items=4, max_padding=0.5)


class Ear:
    """Notes what it was given to hear, and hears it as an engine does, once its gate is open."""

    reentrant = True

    def __init__(self, engine: Engine) -> None:
        self.info = engine.info
        self.heard: list[Waveform] = []
        self.gate = Event()
        self.gate.set()
        self._engine = engine

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        self.heard += batch
        assert self.gate.wait(20)
        return self._engine.transcribe(batch, options)


class Changing(FakeEngine):
    """Is sure of all words but the last, which is another one each time; refuses what is shorter than `least`."""

    least = 0.0
    times = 0

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        if any(len(waveform) < self.least * SAMPLE_RATE for waveform in batch):
            raise ValueError("too short")
        return [self._changed(one) for one in super().transcribe(batch, options)]

    def _changed(self, one: Hypothesis) -> Hypothesis:
        self.times += 1
        words = tuple(one.words[:-1]) + tuple(replace(word, text=f"new{self.times}") for word in one.words[-1:])
        return replace(one, words=words)


@pytest.fixture(scope="module")
def offline(embedded: Bundle) -> Engine:
    return OnnxEngine(replace(embedded, streaming=None))


@asynccontextmanager
async def stream_of(engine: Engine, wait: float = 0.5, limits: BatchLimits = LIMITS) -> AsyncIterator[Stream]:
    threads = ThreadPoolExecutor(1)

    async def transcribe(batch: Sequence[Waveform], options: Options) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, answer, engine, batch, options)

    batcher = Batcher(engine.info, transcribe, limits)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(batcher.serve())
        try:
            async with batcher.stream(wait, Options()) as stream:
                yield stream
        finally:
            task.cancel()
            threads.shutdown(wait=False)


async def settled(stream: Stream, sound: Waveform) -> list[Live]:
    """Hear a sound as a person speaks, every answer in time; return what was told after each tenth of a second."""
    told = []
    for start in range(0, len(sound), 1600):
        told.append(await stream.hear(sound[start : start + 1600]))
        await asyncio.sleep(0.01)
    return told


def place(part: Waveform, whole: Waveform) -> tuple[float, float]:
    """Return from when to when a part is in a sound, in seconds."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start] == part[0] and np.array_equal(whole[start : start + len(part)], part):
            return start / SAMPLE_RATE, (start + len(part)) / SAMPLE_RATE
    raise AssertionError("it is not in there")


async def test_the_final_is_the_offline_transcript_of_the_utterance(offline: Engine) -> None:
    ear = Ear(offline)
    quiet = noise(2.0) * np.float32(0.002)
    sound = np.concatenate([quiet, sample(), quiet])
    async with stream_of(ear) as stream:
        events = await talk(stream, pieces(sound, 0))
    final = events[-1]
    assert isinstance(final, Final)
    utterance = ear.heard[-1]
    start, end = place(utterance, sound)
    assert 1.1 <= start <= 1.9
    assert 5.3 <= end <= 6.4
    (whole,) = offline.transcribe([utterance], Options())
    assert [word.text for word in final.words] == [word.text for word in whole.words]
    assert [word.start - start for word in final.words] == pytest.approx([word.start for word in whole.words])


async def test_an_utterance_longer_than_a_window_is_heard_as_a_recording_of_it(offline: Engine, tmp_path: Path) -> None:
    del tmp_path
    pause = noise(0.5) * np.float32(0.002)
    sound = np.concatenate([sample(), pause] * 12)
    assert len(sound) > 1.5 * offline.info.max_seconds * SAMPLE_RATE
    ear = Ear(offline)
    async with stream_of(ear) as stream:
        events = await talk(stream, [*pieces(sound, 0, 8000), Commit()], StreamLimits(silence=inf, longest=300.0))
    (final,) = finals(events)
    assert final.split().count("timer") >= 10
    assert max(map(len, ear.heard)) <= (offline.info.max_seconds + 1) * SAMPLE_RATE
    whole = await asyncio.get_running_loop().run_in_executor(None, as_recording, sound, offline)
    assert final == whole


def as_recording(sound: Waveform, engine: Engine) -> str:
    """Hear a sound from its first speech on by windows, as the pipeline does."""
    from nautilus.audio.chunk import Planner, in_recording, join
    from nautilus.audio.cuts import utterance_limits

    words: list[Word] = []
    for window in Planner(utterance_limits(engine.info.max_seconds)).whole(sound):
        (heard,) = engine.transcribe([window.audio], Options())
        fresh = [in_recording(word, window) for word in heard.words]
        words = join(words, fresh, window.seam) if window.seam else [*words, *fresh]
    return " ".join(word.text for word in words)


async def test_streams_that_are_heard_again_take_places_like_all_others(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_streams=1)
    async with open_local_lane(lambda _: FakeEngine(), limits, tmp_path / "sizing.json", lambda _: None) as lane:
        async with lane.stream(0.5, Options()):
            with pytest.raises(OverloadedError):
                async with lane.stream(0.5, Options()):
                    pass
            assert lane.state().places.open.total() == 1
        async with lane.stream(0.5, Options()):
            pass


async def test_a_word_is_stable_when_two_hearings_in_a_row_agree() -> None:
    async with stream_of(Changing(), wait=0.3) as stream:
        told = await settled(stream, np.concatenate([sample()] * 2))
    for live in told:
        assert live.stable is not None
        assert live.stable <= max(0, len(live.hypothesis.words) - 1)
    assert max(live.stable or 0 for live in told) >= 3
    assert {word.text for live in told for word in live.hypothesis.words[: live.stable]} <= set(FakeEngine.NUMBERS)


async def test_one_partial_is_asked_at_a_time_and_a_slow_model_costs_no_final(offline: Engine) -> None:
    ear = Ear(offline)
    ear.gate.clear()
    async with stream_of(ear, wait=0.3) as stream:
        for start in range(0, 48_000, 1600):
            live = await stream.hear(sample()[start : start + 1600])
            await asyncio.sleep(0.002)
        assert not live.hypothesis.words
        assert len(ear.heard) == 1
        ear.gate.set()
        await stream.hear(sample()[48_000:])
        live = await stream.finish()
    assert live.hypothesis.text == HEARD


async def test_a_full_queue_costs_partials_and_no_finals(offline: Engine) -> None:
    async with stream_of(offline, wait=0.3, limits=replace(LIMITS, max_waiting=0)) as stream:
        events = await talk(stream, [*pieces(np.concatenate([sample(), silence(1.5)]), 3)])
    assert finals(events) == [HEARD]
    (partial,) = [event for event in events if isinstance(event, Partial)]
    assert [word.text for word in partial.words] == HEARD.split(), "heard in the pause"


async def test_a_partial_that_fails_costs_nothing_else() -> None:
    engine = Changing()
    engine.least = 3.0
    async with stream_of(engine, wait=0.3) as stream:
        told = await settled(stream, np.concatenate([sample(), silence(1.0)]))
    assert len(told[-1].hypothesis.words) == 4


async def test_a_final_that_fails_is_told() -> None:
    engine = Changing()
    engine.least = 100.0
    async with stream_of(engine, wait=1.5) as stream:
        await stream.hear(sample())
        with pytest.raises(EngineError, match="too short"):
            await stream.finish()


async def test_what_a_long_utterance_costs_is_bounded() -> None:
    ear = Ear(FakeEngine())
    speech = np.concatenate([sample()[3000:60_000]] * 8)
    seconds = len(speech) / SAMPLE_RATE
    async with stream_of(ear, wait=0.3) as stream:
        await settled(stream, speech)
        live = await stream.finish()
    assert len(live.hypothesis.words) >= int(seconds) - 1
    assert 2 * seconds < sum(map(len, ear.heard)) / SAMPLE_RATE < 11 * seconds


@pytest.mark.nemo
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("runtime", "family"),
    [*(("nemo", family) for family in ("ctc", "rnnt", "tdt", "hybrid", "aed")), ("onnx", "rnnt"), ("onnx", "tdt")],
)
async def test_models_of_every_family_hear_streams(tiny: TinyModels, runtime: str, family: str) -> None:
    engine = tiny.nemo(family) if runtime == "nemo" else tiny.onnx(family)
    ear = Ear(engine)
    quiet = noise(1.2) * np.float32(0.002)
    async with stream_of(ear, wait=1.0) as stream:
        events = await talk(stream, pieces(np.concatenate([quiet, sample(), quiet]), 1))
    (final,) = [event for event in events if isinstance(event, Final)]
    (whole,) = engine.transcribe([ear.heard[-1]], Options())
    assert [word.text for word in final.words] == [word.text for word in whole.words]
    assert final.words[0].start > 0.3


async def test_what_nobody_says_is_not_heard(offline: Engine) -> None:
    ear = Ear(offline)
    async with stream_of(ear) as stream:
        await settled(stream, np.concatenate([silence(2.0), noise(3.0) * np.float32(0.02)]))
    assert ear.heard == []


@pytest.mark.speech
async def test_the_finals_of_real_speech_are_the_offline_transcripts_of_its_utterances(
    offline: Engine, speech: Path
) -> None:
    quiet = noise(1.2) * np.float32(0.001)
    clips = speech_clips(speech, 20)
    for number, clip in enumerate(clips):
        ear = Ear(offline)
        async with stream_of(ear, wait=1.0) as stream:
            events = await talk(stream, pieces(np.concatenate([quiet, clip, quiet]), number, 8000))
        told = finals(events)
        assert told
        heard = [one.text for one in map(alone(offline), ear.heard)]
        assert [text for text in heard if text in told][-len(told) :] == told


def alone(engine: Engine) -> Callable[[Waveform], Hypothesis]:
    return lambda waveform: engine.transcribe([waveform], Options())[0]
