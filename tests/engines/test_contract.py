"""What every engine promises, see `nautilus.engines.base.Engine`."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nautilus.engines.base import Engine
from nautilus.engines.fake import FakeEngine
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform
from tests.engines.sounds import assert_alike, noise, sample, silence, times

ANY = Options()
ENGLISH = Options(language="en")
ONNX_FAMILIES = ("ctc", "quartz", "rnnt", "tdt", "hybrid", "cache-aware", "prompted", "prompted-hybrid")
NEMO_FAMILIES = (*ONNX_FAMILIES, "aed")


def with_nemo(name: str) -> object:
    return pytest.param(name, marks=[pytest.mark.nemo, pytest.mark.timeout(300)])


@pytest.fixture(
    params=[
        "fake",
        "embedded_onnx",
        with_nemo("embedded_nemo"),
        *(with_nemo(f"nemo {family}") for family in NEMO_FAMILIES),
        *(with_nemo(f"onnx {family}") for family in ONNX_FAMILIES),
    ]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    runtime, _, family = request.param.partition(" ")
    if runtime == "fake":
        return FakeEngine()
    made: Engine
    if family:
        tiny = request.getfixturevalue("tiny")
        made = tiny.nemo(family) if runtime == "nemo" else tiny.onnx(family)
    else:
        made = request.getfixturevalue(runtime)
    return made


def alone(engine: Engine, waveform: Waveform) -> Hypothesis:
    (hypothesis,) = engine.transcribe([waveform], ENGLISH)
    return hypothesis


def test_an_empty_batch_has_no_answers(engine: Engine) -> None:
    assert engine.transcribe([], ANY) == []


def test_a_language_is_no_must(engine: Engine) -> None:
    assert engine.transcribe([sample()], ANY)[0].words


@pytest.mark.parametrize("samples", [0, 1, 100, 159, 160, 319, 320, 321, 400, 1600])
def test_no_waveform_is_too_short(engine: Engine, samples: int) -> None:
    for waveform in (noise(1.0)[:samples], silence(1.0)[:samples]):
        hypothesis = alone(engine, waveform)
        assert all(0 <= word.start <= word.end <= samples / SAMPLE_RATE for word in hypothesis.words)


def test_short_and_long_share_a_batch(engine: Engine) -> None:
    batch = [noise(1.0)[:0], sample(), noise(1.0)[:1], noise(1.0)[:400], silence(1.0)]
    first, second, *_ = engine.transcribe(batch, ENGLISH)
    assert first.text == ""
    assert times(second) == times(alone(engine, sample()))


def test_words_are_in_order_and_inside_their_waveform(engine: Engine) -> None:
    for waveform in (sample(), sample()[: 3 * SAMPLE_RATE], noise(2.0)):
        words = alone(engine, waveform).words
        starts = [word.start for word in words]
        assert starts == sorted(starts)
        assert all(0 <= word.start < word.end <= len(waveform) / SAMPLE_RATE for word in words)


def test_the_text_is_the_words(engine: Engine) -> None:
    hypothesis = alone(engine, sample())
    assert hypothesis.text == " ".join(word.text for word in hypothesis.words)
    assert all(word.text.strip() == word.text != "" for word in hypothesis.words)


def test_confidence_is_a_probability(engine: Engine) -> None:
    assert all(0.0 <= word.confidence <= 1.0 for word in alone(engine, sample()).words)


def test_a_batch_never_changes_an_answer(engine: Engine) -> None:
    waveforms = [
        sample(),
        sample()[: 2 * SAMPLE_RATE],
        np.concatenate([sample(), sample()]),
        silence(3.0),
        noise(1.0),
        noise(1.0)[:800],
    ]
    expected = [alone(engine, waveform) for waveform in waveforms]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(waveforms))
        heard = engine.transcribe([waveforms[index] for index in order], ENGLISH)
        for hypothesis, index in zip(heard, order, strict=True):
            assert_alike(hypothesis, expected[index], engine.info.frame_seconds)


def test_threads_do_not_disturb_each_other(engine: Engine) -> None:
    waveforms = [sample()[start * 8000 : start * 8000 + 32000] for start in range(8)]
    expected = [times(alone(engine, waveform)) for waveform in waveforms]
    with ThreadPoolExecutor(4 if engine.reentrant else 1) as threads:
        heard = list(threads.map(lambda waveform: times(alone(engine, waveform)), waveforms * 3))
    assert heard == expected * 3
