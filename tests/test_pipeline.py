"""The walk from a recording to its transcript, with real decoding and a model that is easy to predict."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from nautilus.assembly import Core, assemble
from nautilus.engines.fake import FakeEngine
from nautilus.errors import AudioTooLongError, AudioTooShortError, BadAudioError, UnsupportedError
from nautilus.hearing import AudioLimits, Earlier, Piece, Task
from nautilus.settings import Settings
from nautilus.types import Hypothesis, Level, Options, Transcript, Waveform
from tests.conftest import fake_engine
from tests.web.clips import spoken, wav


@pytest.fixture
async def core(settings: Settings) -> AsyncIterator[Core]:
    async with assemble(settings, fake_engine) as running:
        yield running


def noise(seconds: float) -> bytes:
    """Return a WAV file of hiss, which is worth cleaning."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, 16_000, 0, "NONE", ""))
        output.writeframes(np.random.default_rng(0).normal(0, 3000, round(seconds * 16_000)).astype("<i2").tobytes())
    return file.getvalue()


async def hear(core: Core, audio: bytes, task: Task | None = None) -> Transcript:
    return await core.pipeline.transcribe(io.BytesIO(audio), task or Task(core.default_model))


async def test_a_short_recording_is_heard_at_once(core: Core) -> None:
    transcript = await hear(core, wav(3, rate=8000))
    assert transcript.text == "zero one two"
    assert (transcript.model, transcript.language) == ("fake", "en")
    assert (transcript.audio.duration, transcript.audio.sample_rate) == (3.0, 8000)
    assert transcript.timings.decode > 0


@pytest.mark.parametrize("level", ["none", "low", "medium", "high", "auto"])
@pytest.mark.parametrize("recording", ["clean", "noisy", "long"])
async def test_what_is_measured_without_a_thread_comes_to_the_same(core: Core, level: Level, recording: str) -> None:
    audio = {"clean": spoken(1), "noisy": noise(3.0), "long": spoken(4)}[recording]
    before = await hear(core, audio, Task(core.default_model, level=level))
    await asyncio.get_running_loop().run_in_executor(core.threads, core.pipeline.warm_up)
    after = await hear(core, audio, Task(core.default_model, level=level))
    assert (before.text, before.words, before.audio) == (after.text, after.words, after.audio)


async def test_a_short_recording_that_needs_no_cleaning_needs_no_thread(core: Core) -> None:
    core.pipeline.warm_up()
    core.threads.shutdown()
    assert (await hear(core, spoken(1))).text
    with pytest.raises(RuntimeError, match="shutdown"):
        await hear(core, noise(3.0))


async def test_quality_is_told_of_what_was_measured(core: Core) -> None:
    facts = (await hear(core, wav(2))).audio
    assert facts.bandwidth == pytest.approx(220, abs=100)
    assert facts.snr is not None
    unmeasured = (await hear(core, wav(2), Task(core.default_model, level="none"))).audio
    assert (unmeasured.bandwidth, unmeasured.snr) == (None, None)
    in_part = (await hear(core, wav(2), Task(core.default_model, bandwidth=False))).audio
    assert (in_part.bandwidth, in_part.snr) == (None, facts.snr)


async def test_a_recording_of_exactly_one_block_is_heard_to_its_end(core: Core) -> None:
    seconds = core.settings.decode.block_seconds
    assert len((await hear(core, wav(seconds))).words) == seconds


async def test_times_of_a_long_recording_refer_to_the_recording(core: Core) -> None:
    transcript = await hear(core, spoken(24))
    starts = [word.start for word in transcript.words]
    assert starts == sorted(starts)
    assert 85 < starts[-1] < transcript.audio.duration
    assert transcript.audio.speech_seconds <= transcript.audio.duration


async def test_pieces_come_in_order_and_add_up(core: Core) -> None:
    pieces: list[Piece] = []

    async def note(piece: Piece) -> None:
        pieces.append(piece)

    transcript = await core.pipeline.transcribe(io.BytesIO(spoken(24)), Task(core.default_model), note)
    assert len(pieces) > 1
    assert tuple(word for piece in pieces for word in piece.words) == transcript.words


async def test_a_hearing_goes_on_from_any_piece_as_if_it_had_never_stopped(core: Core) -> None:
    recording, task = spoken(24), Task(core.default_model)
    pieces: list[Piece] = []

    async def note(piece: Piece) -> None:
        pieces.append(piece)

    whole = await core.pipeline.transcribe(io.BytesIO(recording), task, note)
    assert len(pieces) > 2
    for count in range(1, len(pieces) + 1):
        words = tuple(word for piece in pieces[:count] for word in piece.words)
        earlier = Earlier(pieces[count - 1].standing, words)
        rest: list[Piece] = []

        async def take(piece: Piece, rest: list[Piece] = rest) -> None:
            rest.append(piece)

        resumed = await core.pipeline.transcribe(io.BytesIO(recording), task, take, earlier)
        assert resumed.words == whole.words
        assert [piece.words for piece in rest] == [piece.words for piece in pieces[count:]]


async def test_a_long_recording_without_speech_has_no_words(core: Core) -> None:
    noise = 0.001 * np.random.default_rng(0).standard_normal(16_000 * 45)
    silence = wav(45)[:44] + (noise * 32767).astype("<i2").tobytes()
    assert (await hear(core, silence)).text == ""


async def test_recordings_are_bounded(settings: Settings) -> None:
    bounded = settings.model_copy(update={"audio": AudioLimits(min_seconds=1, max_seconds=2)})
    async with assemble(bounded, fake_engine) as core:
        with pytest.raises(AudioTooShortError, match="at least 1 s"):
            await hear(core, wav(0.5))
        with pytest.raises(AudioTooLongError, match="longer than 2 s"):
            await hear(core, wav(3))
        assert (await hear(core, wav(1.5))).text == "zero"


async def test_what_the_model_cannot_do_is_refused(core: Core) -> None:
    with pytest.raises(UnsupportedError, match="does not know the language 'de'"):
        await hear(core, wav(1), Task(core.default_model, Options(language="de")))
    with pytest.raises(UnsupportedError, match="does not translate"):
        await hear(core, wav(1), Task(core.default_model, Options(translate_to="en")))


async def test_keywords_that_a_model_does_not_take_are_told(core: Core) -> None:
    transcript = await hear(core, wav(1), Task(core.default_model, Options(keywords=("Ada",))))
    assert transcript.warnings == ("keywords have no effect: the model fake takes none.",)


async def test_bad_audio_costs_nobody_else_anything(core: Core) -> None:
    with pytest.raises(BadAudioError):
        await hear(core, b"nonsense")
    assert (await hear(core, wav(1))).text == "zero"


async def test_a_model_that_fails_fails_its_request_only(settings: Settings) -> None:
    class Moody(FakeEngine):
        def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            if any(len(waveform) == 2 * 16_000 for waveform in batch):
                raise ValueError("not today")
            return super().transcribe(batch, options)

    async with assemble(settings, lambda *_: Moody()) as core:
        with pytest.raises(Exception, match="not today"):
            await hear(core, wav(2))
        assert (await hear(core, wav(3))).text == "zero one two"
