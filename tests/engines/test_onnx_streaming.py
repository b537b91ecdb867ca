from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nautilus.engines.base import Live
from nautilus.engines.bundle import Bundle
from nautilus.engines.onnx_streaming import OnnxStreamingEngine, StreamState
from nautilus.types import SAMPLE_RATE, Options, Waveform
from tests.engines.sounds import noise, sample, silence, speech_clips, times


@pytest.fixture(scope="module")
def engine(embedded: Bundle) -> OnnxStreamingEngine:
    return OnnxStreamingEngine(embedded)


def pieces(waveform: Waveform, seed: int, longest: int = 4000) -> list[Waveform]:
    """Cut a waveform at random, empty pieces included."""
    random = np.random.default_rng(seed)
    cuts = np.cumsum(random.integers(0, longest, len(waveform) // (longest // 4)))
    return np.split(waveform, cuts[cuts < len(waveform)])


def stream(engine: OnnxStreamingEngine, parts: Sequence[Waveform], look_ahead: float) -> Live:
    state = engine.open(look_ahead)
    for part in parts:
        engine.step([(state, part)])
    return engine.finish(state)


def test_with_its_largest_look_ahead_a_stream_is_heard_as_a_file_is(engine: OnnxStreamingEngine) -> None:
    (whole,) = engine.transcribe([sample()], Options())
    assert times(stream(engine, [sample()], engine.info.look_aheads[0]).hypothesis) == times(whole)


@pytest.mark.speech
def test_real_speech_is_heard_live_as_in_a_file(engine: OnnxStreamingEngine, speech: Path) -> None:
    clips = speech_clips(speech, 12)
    for clip, whole in zip(clips, engine.transcribe(clips, Options()), strict=True):
        assert stream(engine, pieces(clip, 0), engine.info.look_aheads[0]).hypothesis.text == whole.text


@pytest.mark.parametrize("number", range(4))
def test_the_size_of_pieces_changes_nothing(engine: OnnxStreamingEngine, number: int) -> None:
    look_ahead = engine.info.look_aheads[number]
    for seed, longest in enumerate((8, 700, 4000, 40_000)):
        clip = sample() if longest > 100 else sample()[:8000]
        in_pieces = stream(engine, pieces(clip, seed, longest), look_ahead)
        assert times(in_pieces.hypothesis) == times(stream(engine, [clip], look_ahead).hypothesis)


def test_streams_at_any_position_and_look_ahead_share_a_step_without_hearing_each_other(
    engine: OnnxStreamingEngine,
) -> None:
    clips = [sample(), noise(3.0), silence(4.0), sample()[9000:], sample()[:20_000]]
    looks = [engine.info.look_aheads[number % 4] for number in range(len(clips))]
    alone = [stream(engine, [clip], look) for clip, look in zip(clips, looks, strict=True)]
    states: list[StreamState] = [engine.open(look) for look in looks]
    waiting = [pieces(clip, seed) for seed, clip in enumerate(clips)]
    while any(waiting):
        engine.step([(state, parts.pop(0)) for state, parts in zip(states, waiting, strict=True) if parts])
    together = [engine.finish(state) for state in states]
    assert [one.hypothesis.text for one in together] == [one.hypothesis.text for one in alone]
    assert [times(one.hypothesis) for one in together] == [times(one.hypothesis) for one in alone]


def test_what_is_heard_grows_and_tells_how_far_it_is(engine: OnnxStreamingEngine) -> None:
    state = engine.open(engine.info.look_aheads[1])
    heard = [engine.step([(state, part)])[0] for part in np.split(np.tile(sample(), 2)[:96_000], 60)]
    covered = [live.until for live in heard]
    assert covered == sorted(covered)
    for number, live in enumerate(heard, 1):
        arrived = number * 1600 / SAMPLE_RATE
        assert live.until <= arrived + 0.1
        assert arrived - live.until <= 2 * (engine.info.look_aheads[1] + 0.08) + 0.2
        assert all(word.end <= live.until for word in live.hypothesis.words)


def test_silence_is_told_from_the_last_word_on(engine: OnnxStreamingEngine) -> None:
    state = engine.open(engine.info.look_aheads[0])
    (live,) = engine.step([(state, np.concatenate([sample(), silence(3.0)]))])
    tail = engine.info.frame_seconds + 0.15  # a word ends somewhat later than the model's last sign of it
    assert live.silence == pytest.approx(live.until - live.hypothesis.words[-1].end, abs=tail)
    assert live.silence > 2


def test_a_cut_starts_a_new_utterance_at_the_time_of_the_stream(engine: OnnxStreamingEngine) -> None:
    sound = np.concatenate([sample(), silence(2.0), sample()])
    whole = stream(engine, [sound], engine.info.look_aheads[0]).hypothesis.words
    state = engine.open(engine.info.look_aheads[0])
    (first,) = engine.step([(state, sound[: len(sample()) + 2 * SAMPLE_RATE])])
    engine.cut(state)
    engine.step([(state, sound[len(sample()) + 2 * SAMPLE_RATE :])])
    second = engine.finish(state)
    both = [*first.hypothesis.words, *second.hypothesis.words]
    assert [word.text for word in both] == [word.text for word in whole]
    assert [word.start for word in both] == pytest.approx([word.start for word in whole])
    assert first.hypothesis.words
    assert second.hypothesis.words


def test_a_stream_that_ends_at_once_has_no_words(engine: OnnxStreamingEngine) -> None:
    for waveform in ([], [silence(1.0)[:1]], [silence(1.0)[:319]]):
        assert stream(engine, waveform, engine.info.look_aheads[0]).hypothesis.text == ""
