"""What every streaming engine promises, see `nautilus.engines.base.StreamingEngine`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from nautilus.engines.base import Live, StreamingEngine
from nautilus.engines.bundle import Bundle
from nautilus.engines.cache_aware import StreamState
from nautilus.engines.nemo_streaming import NemoStreamingEngine
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.types import SAMPLE_RATE, Options, Waveform
from tests.engines.models import TinyModels
from tests.engines.sounds import assert_alike, noise, sample, silence, speech_clips, times

FAMILIES = ("streaming-ctc", "streaming-rnnt", "streaming-tdt", "streaming-hybrid")
Streaming: TypeAlias = StreamingEngine[StreamState]


def with_nemo(name: str) -> object:
    return pytest.param(name, marks=[pytest.mark.nemo, pytest.mark.timeout(300)])


@pytest.fixture(scope="module")
def embedded_onnx(embedded: Bundle) -> Streaming:
    return OnnxStreamingEngine(embedded)


@pytest.fixture(params=["embedded_onnx", with_nemo("embedded_nemo"), *(with_nemo(family) for family in FAMILIES)])
def engine(request: pytest.FixtureRequest) -> Streaming:
    if request.param in FAMILIES:
        made: Streaming = request.getfixturevalue("tiny").nemo(request.param)
        return made
    loaded: Streaming = request.getfixturevalue(request.param)
    return loaded


@pytest.fixture(params=["embedded_onnx", with_nemo("embedded_nemo")])
def trained(request: pytest.FixtureRequest) -> Streaming:
    """Return an engine that hears no words in silence."""
    loaded: Streaming = request.getfixturevalue(request.param)
    return loaded


def pieces(waveform: Waveform, seed: int, longest: int = 4000) -> list[Waveform]:
    """Cut a waveform at random, empty pieces included."""
    random = np.random.default_rng(seed)
    cuts = np.cumsum(random.integers(0, longest, len(waveform) // (longest // 4)))
    return np.split(waveform, cuts[cuts < len(waveform)])


def stream(engine: Streaming, parts: Sequence[Waveform], look_ahead: float) -> Live:
    state = engine.open(look_ahead)
    for part in parts:
        engine.step([(state, part)])
    return engine.finish(state)


def test_with_its_largest_look_ahead_a_stream_is_heard_as_a_file_is(engine: Streaming) -> None:
    (whole,) = engine.transcribe([sample()], Options())
    assert times(stream(engine, [sample()], engine.info.look_aheads[0]).hypothesis) == times(whole)


@pytest.mark.speech
def test_real_speech_is_heard_live_as_in_a_file(engine: Streaming, speech: Path) -> None:
    clips = speech_clips(speech, 12)
    for clip, whole in zip(clips, engine.transcribe(clips, Options()), strict=True):
        assert stream(engine, pieces(clip, 0), engine.info.look_aheads[0]).hypothesis.text == whole.text


@pytest.mark.parametrize("number", range(4))
def test_the_size_of_pieces_changes_nothing(engine: Streaming, number: int) -> None:
    look_ahead = engine.info.look_aheads[number % len(engine.info.look_aheads)]
    for seed, longest in enumerate((8, 700, 4000, 40_000)):
        clip = sample() if longest > 100 else sample()[:8000]
        in_pieces = stream(engine, pieces(clip, seed, longest), look_ahead)
        assert times(in_pieces.hypothesis) == times(stream(engine, [clip], look_ahead).hypothesis)


def test_streams_at_any_position_and_look_ahead_share_a_step_without_hearing_each_other(
    engine: Streaming,
) -> None:
    clips = [sample(), noise(3.0), silence(4.0), sample()[9000:], sample()[:20_000]]
    looks = [engine.info.look_aheads[number % len(engine.info.look_aheads)] for number in range(len(clips))]
    alone = [stream(engine, [clip], look) for clip, look in zip(clips, looks, strict=True)]
    states: list[StreamState] = [engine.open(look) for look in looks]
    waiting = [pieces(clip, seed) for seed, clip in enumerate(clips)]
    while any(waiting):
        engine.step([(state, parts.pop(0)) for state, parts in zip(states, waiting, strict=True) if parts])
    together = [engine.finish(state) for state in states]
    assert [one.hypothesis.text for one in together] == [one.hypothesis.text for one in alone]
    assert [times(one.hypothesis) for one in together] == [times(one.hypothesis) for one in alone]


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_how_long_a_tdt_s_tokens_last_does_not_depend_on_neighbours(tiny: TinyModels) -> None:
    import torch

    engine = NemoStreamingEngine("tdt", tiny.nemo_file("streaming-tdt"))
    output, lasts = engine._model.joint.joint_net[-1], len(engine._model.cfg.decoding.durations)
    weights = torch.randn((lasts, output.weight.shape[1]), generator=torch.Generator().manual_seed(1))
    output.weight.data[-lasts:] = weights - weights.mean(dim=1, keepdim=True)  # each frame says something else
    output.bias.data[-lasts:] = 0
    clips = [sample()[4000 * n :][: 24_000 + 1000 * n] for n in range(8)] + [noise(2.0, seed) for seed in range(3)]
    parts = [np.array_split(clip, 5) for clip in clips]
    alone = [stream(engine, cut, engine.info.look_aheads[0]) for cut in parts]
    states = [engine.open(engine.info.look_aheads[0]) for _ in clips]
    for pieces_ in zip(*parts, strict=True):
        engine.step(list(zip(states, pieces_, strict=True)))
    assert [times(engine.finish(state).hypothesis) for state in states] == [times(one.hypothesis) for one in alone]
    ends = [word.end - word.start for one in alone for word in one.hypothesis.words]
    assert len({round(seconds, 3) for seconds in ends}) > 3


def test_what_is_heard_grows_and_tells_how_far_it_is(engine: Streaming) -> None:
    state = engine.open(engine.info.look_aheads[1])
    heard = [engine.step([(state, part)])[0] for part in np.split(np.tile(sample(), 2)[:96_000], 60)]
    covered = [live.until for live in heard]
    assert covered == sorted(covered)
    for number, live in enumerate(heard, 1):
        arrived = number * 1600 / SAMPLE_RATE
        assert live.until <= arrived + 0.1
        assert arrived - live.until <= 2 * (engine.info.look_aheads[1] + 0.08) + 0.2
        assert all(word.end <= live.until for word in live.hypothesis.words)


def test_silence_is_told_from_the_last_word_on(trained: Streaming) -> None:
    state = trained.open(trained.info.look_aheads[0])
    (live,) = trained.step([(state, np.concatenate([sample(), silence(3.0)]))])
    tail = trained.info.frame_seconds + 0.15  # a word ends somewhat later than the model's last sign of it
    assert live.silence == pytest.approx(live.until - live.hypothesis.words[-1].end, abs=tail)
    assert live.silence > 2


def test_a_cut_starts_a_new_utterance_at_the_time_of_the_stream(trained: Streaming) -> None:
    sound = np.concatenate([sample(), silence(2.0), sample()])
    whole = stream(trained, [sound], trained.info.look_aheads[0]).hypothesis.words
    state = trained.open(trained.info.look_aheads[0])
    (first,) = trained.step([(state, sound[: len(sample()) + 2 * SAMPLE_RATE])])
    trained.cut(state)
    trained.step([(state, sound[len(sample()) + 2 * SAMPLE_RATE :])])
    second = trained.finish(state)
    both = [*first.hypothesis.words, *second.hypothesis.words]
    assert [word.text for word in both] == [word.text for word in whole]
    assert [word.start for word in both] == pytest.approx([word.start for word in whole])
    assert first.hypothesis.words
    assert second.hypothesis.words


def test_a_stream_that_ends_at_once_has_no_words(engine: Streaming) -> None:
    for waveform in ([], [silence(1.0)[:1]], [silence(1.0)[:319]]):
        assert stream(engine, waveform, engine.info.look_aheads[0]).hypothesis.text == ""


@pytest.mark.nemo
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(4))
def test_nemo_and_onnx_hear_the_same_at_every_look_ahead(
    embedded_nemo: Streaming, embedded_onnx: Streaming, number: int
) -> None:
    assert embedded_nemo.info.look_aheads == embedded_onnx.info.look_aheads
    look_ahead = embedded_onnx.info.look_aheads[number]
    for clip in (sample(), np.concatenate([sample()[20_000:], silence(1.5), sample()]), noise(2.0)):
        theirs, ours = (stream(one, pieces(clip, number), look_ahead) for one in (embedded_nemo, embedded_onnx))
        assert_alike(ours.hypothesis, theirs.hypothesis, 0.001)
        assert (ours.until, ours.silence) == pytest.approx((theirs.until, theirs.silence))


@pytest.mark.nemo
@pytest.mark.speech
@pytest.mark.timeout(300)
def test_nemo_and_onnx_hear_the_same_in_real_speech_at_every_look_ahead(
    embedded_nemo: Streaming, embedded_onnx: Streaming, speech: Path
) -> None:
    for look_ahead in embedded_onnx.info.look_aheads:
        for clip in speech_clips(speech, 12):
            theirs, ours = (stream(one, [clip], look_ahead) for one in (embedded_nemo, embedded_onnx))
            assert_alike(ours.hypothesis, theirs.hypothesis, 0.001)


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_a_nemo_model_that_needs_the_whole_recording_offers_no_look_ahead(tiny: TinyModels) -> None:
    assert [tiny.nemo(family).info.look_aheads for family in ("ctc", "cache-aware", "aed")] == [(), (), ()]
    assert [tiny.nemo(family).info.look_aheads for family in FAMILIES] == [(0.48, 0.0)] * len(FAMILIES)
