"""The NeMo engine against NeMo's own `transcribe()`, and against ONNX Runtime on the same weights."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nautilus.engines.base import Engine
from nautilus.engines.bundle import Bundle
from nautilus.engines.nemo import NemoEngine, family_of, load_model
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform
from tests.engines.models import TinyModels
from tests.engines.sounds import assert_alike, noise, sample, speech_clips

pytestmark = [pytest.mark.nemo, pytest.mark.timeout(300)]

FRAME = 0.08
CLIPS = [sample(), sample()[: 3 * SAMPLE_RATE], noise(2.0)]
"""All last longer than a second: shorter ones NeMo pads."""


def as_nemo_says(path: Path, clips: list[Waveform], at_once: int = 64) -> list[Any]:
    """Ask `transcribe()` of a model of its own, since it leaves a model in training mode."""
    model = load_model("as NeMo says", path)
    results: list[Any] = model.transcribe(clips, batch_size=at_once, timestamps=True, verbose=False)
    return results


@pytest.mark.parametrize("family", ["ctc", "quartz", "rnnt", "tdt", "hybrid", "hybrid-tdt", "cache-aware"])
def test_it_says_what_nemo_says(tiny: TinyModels, family: str) -> None:
    expected = as_nemo_says(tiny.nemo_file(family), CLIPS)
    heard = tiny.nemo(family).transcribe(CLIPS, Options())
    # it calls a lone word mark a word without letters
    assert [hypothesis.text.split() for hypothesis in heard] == [result.text.split() for result in expected]
    assert all(hypothesis.words for hypothesis in heard)


@pytest.mark.parametrize("family", ["rnnt", "tdt", "hybrid", "hybrid-tdt"])
def test_a_transducer_s_words_have_nemo_s_times(tiny: TinyModels, family: str) -> None:
    results = as_nemo_says(tiny.nemo_file(family), CLIPS, 1)  # in a batch it mixes up how long a TDT's tokens last
    for clip, result, heard in zip(CLIPS, results, tiny.nemo(family).transcribe(CLIPS, Options()), strict=True):
        expected = [word for word in result.timestamp["word"] if word["word"]]
        for theirs, ours in zip(expected, heard.words, strict=True):
            last = max(theirs["end_offset"], theirs["start_offset"] + 1)  # a TDT may say that it takes no time
            assert ours.text == theirs["word"]
            assert ours.start == pytest.approx(theirs["start_offset"] * FRAME)
            assert ours.end >= min(last * FRAME, len(clip) / SAMPLE_RATE) - 1e-6
            assert ours.end <= (last + 1) * FRAME


@pytest.mark.usefixtures("nemo")
def test_a_ctc_word_starts_where_nemo_heard_its_first_sub_word(embedded: Bundle, tmp_path: Path) -> None:
    (result,) = as_nemo_says(embedded.folder / "model.nemo", [sample()])
    alone = tmp_path / "uncalibrated.nemo"  # a file outside of its bundle, of which nothing was measured
    alone.symlink_to(embedded.folder / "model.nemo")
    (heard,) = NemoEngine("uncalibrated", alone).transcribe([sample()], Options())
    assert heard.text == result.text
    first_heard = [piece["end_offset"] for piece in result.timestamp["char"]]  # NeMo ends each where it began
    first = 0
    for word in heard.words:
        last = first + len(word.tokens) - 1
        assert round(word.start / FRAME) == first_heard[first]
        assert round(word.end / FRAME) > first_heard[last]
        assert round(word.end / FRAME) - 1 in result.timestamp["timestep"]
        first = last + 1


def test_nemo_and_onnx_hear_the_same(embedded_nemo: Engine, embedded_onnx: Engine) -> None:
    for theirs, ours in zip(
        embedded_nemo.transcribe(CLIPS, Options()), embedded_onnx.transcribe(CLIPS, Options()), strict=True
    ):
        assert_alike(ours, theirs, FRAME)


def test_nemo_and_onnx_take_the_same_keywords(embedded_nemo: Engine, embedded_onnx: Engine) -> None:
    expecting = Options(keywords=("climber", "fifty", "sitter", "plague"))
    for theirs, ours, unprompted in zip(
        embedded_nemo.transcribe(CLIPS, expecting),
        embedded_onnx.transcribe(CLIPS, expecting),
        embedded_onnx.transcribe(CLIPS, Options()),
        strict=True,
    ):
        assert_alike(ours, theirs, FRAME)
        assert len(ours.words) <= len(unprompted.words), "nothing is put where nothing was"


@pytest.mark.speech
def test_nemo_and_onnx_hear_the_same_in_real_speech(
    speech: Path, embedded: Bundle, embedded_nemo: Engine, embedded_onnx: Engine
) -> None:
    clips = speech_clips(speech, 40)
    by_nemo = as_nemo_says(embedded.folder / "model.nemo", clips)
    theirs = embedded_nemo.transcribe(clips, Options())
    ours = embedded_onnx.transcribe(clips, Options())
    assert [hypothesis.text.split() for hypothesis in theirs] == [result.text.split() for result in by_nemo]
    for heard, expected in zip(ours, theirs, strict=True):
        assert_alike(heard, expected, FRAME)
    assert sum(len(hypothesis.words) for hypothesis in ours) > len(clips)


def attend(tiny: TinyModels, options: Options) -> Hypothesis:
    (hypothesis,) = tiny.nemo("aed").transcribe([sample()], options)
    return hypothesis


def test_a_canary_hears_in_the_language_it_is_told(tiny: TinyModels) -> None:
    english, german = attend(tiny, Options(language="en")), attend(tiny, Options(language="de"))
    assert english.text != german.text
    assert (english.language, german.language) == ("en", "de")
    assert tiny.nemo("aed").info.languages == ("en", "de")


def test_a_canary_translates(tiny: TinyModels) -> None:
    translated = attend(tiny, Options(language="en", translate_to="de"))
    assert translated.language == "de"
    assert translated.text not in (attend(tiny, Options(language="en")).text, attend(tiny, Options(language="de")).text)


def test_a_canary_s_words_cover_the_sound(tiny: TinyModels) -> None:
    words = attend(tiny, Options(language="en", translate_to="de")).words
    assert words[0].start == 0
    assert words[-1].end == pytest.approx(len(sample()) / SAMPLE_RATE)
    assert all(before.end == after.start for before, after in pairwise(words))


@pytest.mark.parametrize("family", ["prompted", "prompted-hybrid"])
def test_a_prompted_model_hears_in_the_language_it_is_told(tiny: TinyModels, family: str) -> None:
    model = load_model("as NeMo says", tiny.nemo_file(family))
    engine = tiny.nemo(family)
    heard = {}
    for language, theirs in (("en", "en-US"), ("de", "de-DE"), (None, "auto")):
        results = model.transcribe(CLIPS, batch_size=len(CLIPS), target_lang=theirs, verbose=False)
        heard[language] = engine.transcribe(CLIPS, Options(language=language))
        assert [one.text.split() for one in heard[language]] == [result.text.split() for result in results]
    assert len({hypotheses[0].text for hypotheses in heard.values()}) == len(heard)
    assert engine.info.languages == ("en", "de")


def test_only_a_canary_translates(tiny: TinyModels) -> None:
    families = ("ctc", "rnnt", "tdt", "hybrid", "aed")
    assert [tiny.nemo(family).info.translates for family in families] == [False] * 4 + [True]
    assert [tiny.nemo(family).info.family for family in families] == list(families)


@pytest.mark.usefixtures("nemo")
def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.nemo"
    broken.write_bytes(b"no archive")
    with pytest.raises(ModelLoadError, match=r"broken\.nemo"):
        NemoEngine("broken", broken)


@pytest.mark.usefixtures("nemo")
def test_what_does_not_transcribe_is_refused() -> None:
    import torch

    with pytest.raises(ModelLoadError, match="A Linear does not transcribe"):
        family_of(torch.nn.Linear(1, 1))
