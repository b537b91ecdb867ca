"""Transducers that were trained, if only on AN4 and digits: what random weights say nothing about."""

import json
import random
from pathlib import Path

import pytest

from nautilus.engines.catalog import Catalog
from nautilus.engines.export import export_model
from nautilus.engines.nemo import NemoEngine
from nautilus.engines.onnx_transducer import OnnxTransducerEngine
from nautilus.engines.quantize import quantize_model
from nautilus.measure.score import score
from nautilus.types import Hypothesis, Options, Waveform
from tests.engines.sounds import assert_alike, recording, silence, times
from tests.engines.test_nemo import FRAME, as_nemo_says

pytestmark = [pytest.mark.nemo, pytest.mark.speech, pytest.mark.timeout(300)]

WEIGHTS = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module", params=["rnnt", "tdt"])
def nemo_file(request: pytest.FixtureRequest, nemo: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - must be there
    from recipes.transducer.model import create, load

    path = tmp_path_factory.mktemp("transducer") / f"{request.param}.nemo"
    load(create(tdt=request.param == "tdt"), WEIGHTS / f"{request.param}.npz").save_to(str(path))
    return path


@pytest.fixture(scope="module")
def engine(nemo_file: Path) -> NemoEngine:
    return NemoEngine(nemo_file.stem, nemo_file)


@pytest.fixture(scope="module")
def exported(nemo_file: Path) -> OnnxTransducerEngine:
    export_model(str(nemo_file), nemo_file.parent / "exported")
    return OnnxTransducerEngine(nemo_file.parent / "exported", nemo_file.stem, ())


@pytest.fixture(scope="module")
def said(speech: Path) -> list[tuple[Waveform, str]]:
    """Recordings of AN4's test set that last longer than a second, and their texts."""
    rows = [json.loads(line) for line in (speech / "dev_en.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["set"] == "an4" and row["duration"] > 1.0]
    return [(recording(speech / row["audio_filepath"]), row["text"]) for row in chosen]


@pytest.fixture(scope="module")
def plain(engine: NemoEngine, said: list[tuple[Waveform, str]]) -> list[Hypothesis]:
    return engine.transcribe([waveform for waveform, _ in said], Options())


def rate(heard: list[Hypothesis], said: list[tuple[Waveform, str]]) -> float:
    """Word error rate in percent."""
    errors = sum(score(text, one.text, "en", plain=True).errors for (_, text), one in zip(said, heard, strict=True))
    return 100 * errors / sum(len(text.split()) for _, text in said)


def recalled(heard: list[Hypothesis], said: list[tuple[Waveform, str]], words: set[str]) -> int:
    """How often words were heard where they were said."""
    return sum(len(words & {*text.split()} & {*one.text.split()}) for (_, text), one in zip(said, heard, strict=True))


def missed(heard: list[Hypothesis], said: list[tuple[Waveform, str]]) -> set[str]:
    """Words that were said and not heard."""
    words = (({*text.split()} - {*one.text.split()}) for (_, text), one in zip(said, heard, strict=True))
    return {word for some in words for word in some if len(word) > 3}


def test_it_says_what_nemo_says(nemo_file: Path, said: list[tuple[Waveform, str]], plain: list[Hypothesis]) -> None:
    results = as_nemo_says(nemo_file, [waveform for waveform, _ in said])
    assert [one.text for one in plain] == [result.text for result in results]
    assert rate(plain, said) < 20.0


def test_onnx_says_the_same(
    exported: OnnxTransducerEngine, said: list[tuple[Waveform, str]], plain: list[Hypothesis]
) -> None:
    for ours, theirs in zip(exported.transcribe([waveform for waveform, _ in said], Options()), plain, strict=True):
        assert_alike(ours, theirs, FRAME)


def test_with_an_encoder_of_8_bits_it_says_nearly_the_same(
    nemo_file: Path, exported: OnnxTransducerEngine, said: list[tuple[Waveform, str]], tmp_path: Path
) -> None:
    folder, waveforms = nemo_file.parent / "exported", [waveform for waveform, _ in said]
    quantize_model(Catalog(folder).find(str(folder)), tmp_path / "light", waveforms[::4])
    light = OnnxTransducerEngine(tmp_path / "light", "light", ())
    heard = light.transcribe(waveforms, Options())
    assert rate(heard, said) < rate(exported.transcribe(waveforms, Options()), said) + 2.0
    for alone, beside in zip(waveforms[:8], heard, strict=False):
        assert light.transcribe([alone], Options())[0].text == beside.text


def test_neighbours_change_nothing(
    engine: NemoEngine, said: list[tuple[Waveform, str]], plain: list[Hypothesis]
) -> None:
    alone = [times(engine.transcribe([waveform], Options())[0]) for waveform, _ in said[:8]]
    assert [times(one) for one in plain[:8]] == alone


def test_keywords_bring_back_words_that_were_misheard(
    engine: NemoEngine, exported: OnnxTransducerEngine, said: list[tuple[Waveform, str]], plain: list[Hypothesis]
) -> None:
    words = missed(plain, said)
    expecting = Options(keywords=tuple(sorted(words)))
    heard = engine.transcribe([waveform for waveform, _ in said], expecting)
    assert recalled(heard, said, words) > recalled(plain, said, words)
    assert rate(heard, said) < rate(plain, said) + 0.3
    for ours, theirs in zip(exported.transcribe([waveform for waveform, _ in said], expecting), heard, strict=True):
        assert_alike(ours, theirs, FRAME)


def test_keywords_that_nobody_says_do_no_harm(
    exported: OnnxTransducerEngine, speech: Path, said: list[tuple[Waveform, str]], plain: list[Hypothesis]
) -> None:
    rows = [json.loads(line) for line in (speech / "train_en.jsonl").read_text(encoding="utf-8").splitlines()]
    spoken = {word for _, text in said for word in text.split()}
    others = sorted({word for row in rows for word in row["text"].split() if len(word) > 4} - spoken)
    for seed in range(3):
        keywords = tuple(random.Random(seed).sample(others, 20))  # noqa: S311 - reproducible, not secret
        heard = exported.transcribe([waveform for waveform, _ in said], Options(keywords=keywords))
        assert abs(rate(heard, said) - rate(plain, said)) < 0.3


def test_keywords_never_come_over_silence(engine: NemoEngine, exported: OnnxTransducerEngine) -> None:
    expecting = Options(keywords=("january", "eighteenth", "rubout"))
    for one in (engine, exported):
        assert one.transcribe([silence(10.0)], expecting)[0].text == one.transcribe([silence(10.0)], Options())[0].text


def test_a_keyword_keeps_its_place_in_time(
    engine: NemoEngine, said: list[tuple[Waveform, str]], plain: list[Hypothesis]
) -> None:
    heard = engine.transcribe([waveform for waveform, _ in said], Options(keywords=tuple(sorted(missed(plain, said)))))
    assert [one.text for one in heard] != [one.text for one in plain]
    for (waveform, _), one in zip(said, heard, strict=True):
        starts = [word.start for word in one.words]
        assert starts == sorted(starts)
        assert all(0 <= word.start < word.end <= len(waveform) / 16_000 for word in one.words)
