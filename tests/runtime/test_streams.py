"""What every `Stream` promises, whether its model goes on from where it stopped or hears each utterance again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.base import Engine
from nautilus.engines.bundle import Bundle
from nautilus.engines.onnx import OnnxEngine
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.errors import OverloadedError, UnsupportedError
from nautilus.runtime.lane import Lane
from nautilus.runtime.local import open_local_lane
from nautilus.runtime.queue import BatchLimits
from nautilus.runtime.short import surer
from nautilus.stream.service import Clear, Command, Commit
from nautilus.stream.session import Committed, Final, Partial, SpeechStarted
from nautilus.types import SAMPLE_RATE, Claim, Options, Priority
from tests.engines.sounds import noise, sample, silence
from tests.stream.talk import finals, pieces, talk

HEARD = "set a timer for fifteen minutes and play the next song"
LIMITS = BatchLimits(workers=1, max_items=4, max_padding=0.5, max_streams=3)


@pytest.fixture(scope="module")
def stepped(embedded: Bundle) -> Engine:
    return OnnxStreamingEngine(embedded)


@pytest.fixture(scope="module")
def reheard(embedded: Bundle) -> Engine:
    return OnnxEngine(replace(embedded, streaming=None))


WITH_NEMO = pytest.param("embedded_nemo", marks=[pytest.mark.nemo, pytest.mark.timeout(300)])


@pytest.fixture(params=["stepped", "reheard", WITH_NEMO])
def engine(request: pytest.FixtureRequest) -> Engine:
    made: Engine = request.getfixturevalue(request.param)
    return made


@asynccontextmanager
async def lane_of(engine: Engine, tmp_path: Path, limits: BatchLimits = LIMITS) -> AsyncIterator[Lane]:
    async with open_local_lane(lambda _: engine, limits, tmp_path / "sizing.json", lambda _: None) as lane:
        yield lane


async def test_speech_begins_grows_and_is_over(engine: Engine, tmp_path: Path) -> None:
    sound = np.concatenate([sample(), silence(1.5)])
    async with lane_of(engine, tmp_path) as lane, lane.stream(lane.info.waits[0], Options()) as stream:
        events = await talk(stream, pieces(sound, 0))
    assert isinstance(events[0], SpeechStarted)
    assert 0.0 <= events[0].at <= 0.6
    assert isinstance(events[-1], Final)
    partials = events[1:-1]
    assert partials
    assert all(isinstance(event, Partial) and 0 <= event.stable <= len(event.words) for event in partials)
    assert finals(events) == [HEARD]
    assert 4.0 < events[-1].until < 6.0


@pytest.mark.parametrize(("seed", "longest"), [(0, 300), (1, 4000), (2, 60_000), (3, 10_000_000)])
async def test_the_size_of_pieces_changes_no_final(engine: Engine, tmp_path: Path, seed: int, longest: int) -> None:
    pause = np.concatenate([silence(0.6), noise(0.9) * np.float32(0.003)])
    sound = np.concatenate([sample(), pause, sample()[8000:], pause, noise(0.5), sample()[:40_000]])
    async with lane_of(engine, tmp_path) as lane:
        heard = []
        for cut in ([sound], pieces(sound, seed, longest)):
            async with lane.stream(lane.info.waits[0], Options()) as stream:
                heard.append([event for event in await talk(stream, cut) if isinstance(event, Final)])
    assert len(heard[0]) == len(heard[1]) == 3
    for whole, cut in zip(*heard, strict=True):
        assert [word.text for word in whole.words] == [word.text for word in cut.words]
        assert [word.start for word in whole.words] == pytest.approx([word.start for word in cut.words])
        assert [word.end for word in whole.words] == pytest.approx([word.end for word in cut.words])
        # Products of matrices of other heights differ in their last bits.
        scores = [[word.confidence for word in final.words] for final in (whole, cut)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
        assert whole.until == pytest.approx(cut.until)


async def test_neighbours_change_nothing(engine: Engine, tmp_path: Path) -> None:
    sounds = [np.concatenate([silence(0.3 * n), sample()[n * 9000 :], silence(1.0)]) for n in range(3)]

    async def told(lane: Lane, number: int) -> list[str]:
        async with lane.stream(lane.info.waits[number], Options()) as stream:
            return finals(await talk(stream, pieces(sounds[number], number)))

    async with lane_of(engine, tmp_path) as lane:
        alone = [await told(lane, number) for number in range(3)]
        together = await asyncio.gather(*(told(lane, number) for number in range(3)))
    assert together == alone
    assert alone[0] == [HEARD]


async def test_times_are_the_stream_s(engine: Engine, tmp_path: Path) -> None:
    sound = np.concatenate([sample(), silence(2.0)] * 3)
    async with lane_of(engine, tmp_path) as lane, lane.stream(lane.info.waits[0], Options()) as stream:
        events = await talk(stream, pieces(sound, 4))
    starts = [event.words[0].start for event in events if isinstance(event, Final)]
    distance = len(sample()) / SAMPLE_RATE + 2.0
    assert [after - before for before, after in pairwise(starts)] == pytest.approx([distance] * 2, abs=0.09)
    covered = [event.until for event in events if isinstance(event, Partial | Final)]
    assert covered == sorted(covered)
    for event in events:
        if isinstance(event, Partial | Final):
            assert all(word.end <= event.until + 1e-6 for word in event.words)


async def test_a_stream_of_less_than_a_second_is_heard_as_a_file_too_and_the_surer_counts(
    embedded: Bundle, tmp_path: Path
) -> None:
    engine = OnnxStreamingEngine(embedded)
    (whole,) = engine.transcribe([sample()], Options())
    cut = [sample()[max(0, round(SAMPLE_RATE * (w.start - 0.08))) :][: SAMPLE_RATE // 2] for w in whole.words]
    expected = []
    async with lane_of(engine, tmp_path) as lane, lane.stream(0.0, Options()) as stream:
        for number, sound in enumerate(cut):
            file = (await lane.submit(sound, Options(), Claim(Priority.REQUEST))).hypothesis
            state = engine.open(0.0)
            engine.step([(state, sound)])
            best = surer(engine.finish(state).hypothesis, file)
            expected += [(word.text, round(number * 0.5 + word.start, 2)) for word in best.words]
        said: list[Command] = []
        for sound in cut:
            said += [*pieces(sound, 5), Commit()]
        events = await talk(stream, said)
    told = [word for event in events if isinstance(event, Final) for word in event.words]
    assert [(word.text, round(word.start, 2)) for word in told] == expected
    assert all(word.end <= len(cut) * 0.5 for word in told)


async def test_a_commit_ends_an_utterance_with_its_last_sample(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path) as lane, lane.stream(lane.info.waits[0], Options()) as stream:
        events = await talk(stream, [sample(), Commit(), sample(), Commit(), silence(0.2), Commit()])
    assert finals(events) == [HEARD, HEARD]
    committed = [event for event in events if isinstance(event, Committed)]
    assert [event.utterance for event in committed] == [0, 1, None]
    assert [event.until for event in committed] == sorted(event.until for event in committed)
    first, second = (event.words[0].start for event in events if isinstance(event, Final))
    assert second - first == pytest.approx(len(sample()) / SAMPLE_RATE, abs=0.09)


async def test_what_is_cleared_is_never_told(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path) as lane, lane.stream(lane.info.waits[0], Options()) as stream:
        events = await talk(stream, [sample()[:30_000], Clear(), sample(), Commit()])
    assert finals(events) == [HEARD]
    cleared, committed = (event for event in events if isinstance(event, Committed))
    assert (cleared.cleared, cleared.utterance, cleared.until) == (True, None, 30_000 / SAMPLE_RATE)
    assert (committed.cleared, committed.utterance) == (False, 0)


async def test_silence_has_no_words_and_an_hour_of_it_is_forgotten(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path) as lane, lane.stream(lane.info.waits[0], Options()) as stream:
        live = await stream.hear(silence(0.0))
        assert live.until == 0.0
        for seconds in range(1, 5):
            live = await stream.hear(silence(1.0))
            assert not live.hypothesis.words
            assert seconds - 2.5 < live.until <= seconds
            assert live.silence == pytest.approx(live.until)
        assert not (await stream.cut(live)).hypothesis.words
        assert (await stream.hear(silence(1.0))).silence <= 1.5


async def test_the_last_words_come_with_the_end_however_little_is_sent(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path) as lane:
        for samples in (0, 1, 319, 320, 321, 5000):
            async with lane.stream(lane.info.waits[-1], Options()) as stream:
                assert finals(await talk(stream, [sample()[:samples]])) in ([], ["a"], ["set"])


async def test_there_are_places_for_so_many_streams(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path, replace(LIMITS, max_streams=1)) as lane:
        wait = lane.info.waits[0]
        async with lane.stream(wait, Options()):
            with pytest.raises(OverloadedError):
                async with lane.stream(wait, Options()):
                    pass
        async with lane.stream(wait, Options()) as stream:
            await stream.hear(sample())  # and goes, whatever is asked


async def test_another_wait_or_language_is_refused(engine: Engine, tmp_path: Path) -> None:
    async with lane_of(engine, tmp_path) as lane:
        with pytest.raises(UnsupportedError, match="look_ahead must be one of"):
            async with lane.stream(0.123, Options()):
                pass
        if lane.info.languages:
            with pytest.raises(UnsupportedError, match="does not know the language 'de'"):
                async with lane.stream(lane.info.waits[0], Options(language="de")):
                    pass
