import json
from pathlib import Path

import httpx
import pytest

from nautilus.assembly import assemble
from nautilus.errors import BadRequestError
from nautilus.measure.evaluate import Evaluation, by_pipeline, by_url, evaluate
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.page import page
from nautilus.measure.report import document, rows_by, worst
from nautilus.settings import Settings
from tests.conftest import fake_engine
from tests.web.clips import wav


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rows = [("zero one two", 3, "good"), ("zero nine", 2, "good"), ("zero", 0, "broken")]
    lines = []
    for number, (text, seconds, name) in enumerate(rows):
        (tmp_path / f"{number}.wav").write_bytes(wav(seconds) if seconds else b"nonsense")
        lines.append(json.dumps({"audio_filepath": f"{number}.wav", "duration": seconds, "text": text, "set": name}))
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    return list(read_manifest(tmp_path / "all.jsonl"))


def check(evaluation: Evaluation) -> None:
    good, broken = rows_by(evaluation, lambda result: result.utterance.set)
    assert (good.rate.wer, good.rate.substitutions, good.utterances) == (1 / 5, 1, 2)
    assert (broken.rate.wer, broken.rate.deletions) == (1.0, 1)
    assert [result.error is None for result in evaluation.results] == [True, True, False]
    assert worst(evaluation.results, 1)[0].utterance.set == "broken"
    assert evaluation.speed("none") > 0


async def test_in_process_and_against_a_server_are_the_same(
    utterances: list[Utterance], settings: Settings, fake_server: str
) -> None:
    done: list[float] = []
    async with assemble(settings, fake_engine) as core:
        check(
            await evaluate(
                utterances, ["none"], by_pipeline(core.pipeline, core.default_model), done.append, plain=True
            )
        )
    assert sum(done) == 5
    async with httpx.AsyncClient(base_url=fake_server, timeout=30) as client:
        check(await evaluate(utterances, ["none"], by_url(client, None), done.append, plain=True))


async def test_the_reports_have_everything(utterances: list[Utterance], settings: Settings) -> None:
    async with assemble(settings, fake_engine) as core:
        hear = by_pipeline(core.pipeline, core.default_model)
        evaluation = await evaluate(utterances, ["none", "low"], hear, lambda _: None)
    groups = {"set": rows_by(evaluation, lambda result: result.utterance.set)}
    written = json.dumps(document(evaluation, groups))
    assert len(json.loads(written)["utterances"]) == 6
    html = page(evaluation, groups)
    assert html.count("<audio") == 3
    assert html.count("<svg") == 2
    assert "not an audio or video file" in html


@pytest.mark.parametrize(
    "line", ["{", '{"text": "no path"}', "[]", '{"audio_filepath": "a", "text": "x", "duration": "y"}']
)
def test_a_broken_manifest_names_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"audio_filepath": "a.wav", "text": "x"}\n' + line)
    with pytest.raises(BadRequestError, match="line 2"):
        list(read_manifest(tmp_path / "bad.jsonl"))
