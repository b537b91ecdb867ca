"""A Canary's files, with a network that says one thing in each language; the transducers are in `test_export`."""

import json
import warnings
from math import log
from pathlib import Path
from typing import Any

import pytest

from nautilus.engines.onnx_asr import OnnxAsrEngine
from nautilus.errors import ModelLoadError
from nautilus.types import Options
from tests.engines.sounds import noise

PROMPT = [
    "▁",
    *("<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|en|>", "<|de|>"),
    *("<|pnc|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>", "<|endoftext|>"),
]
VOCABULARY = [*PROMPT, "▁hello", "▁the", "re", "▁hallo", ".", "<blk>"]
TARGET = 5
"""Where the prompt names the language to answer in."""
PROMPT_LENGTH = 10
"""Tokens of the prompt."""
SAYS = {"<|en|>": ["▁hello", "▁the", "re", "."], "<|de|>": ["▁hallo", "."]}


def write_graphs(folder: Path) -> None:
    """Write an encoder that hands on the features, and a decoder that recites `SAYS` for the target language."""
    import torch

    recital = torch.full((len(VOCABULARY), 9, len(VOCABULARY)), -9.0)
    for language, pieces in SAYS.items():
        for step, piece in enumerate([*pieces, *["<|endoftext|>"] * (9 - len(pieces))]):
            recital[VOCABULARY.index(language), step, VOCABULARY.index(piece)] = log(0.5)

    class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def forward(self, audio_signal: Any, length: Any) -> Any:
            embeddings = audio_signal.transpose(1, 2)
            return embeddings, (torch.arange(embeddings.shape[1]).unsqueeze(0) < length.unsqueeze(1)).long()

    class Decoder(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def forward(self, input_ids: Any, encoder_embeddings: Any, encoder_mask: Any, decoder_mems: Any) -> Any:
            ids = torch.cat([decoder_mems[0, :, :, 0], input_ids.float()], dim=1)
            step = ids.shape[1] - PROMPT_LENGTH
            used = encoder_embeddings.sum() * encoder_mask.sum() * 0  # a graph keeps only inputs that it uses
            return recital[ids[:, TARGET].long()][:, step : step + 1] + used, ids.unsqueeze(0).unsqueeze(3)

    def write(module: Any, name: str, example: tuple[Any, ...], axes: dict[str, dict[int, str]], count: int) -> None:
        names = list(axes)
        torch.onnx.export(
            module.eval(), example, str(folder / name), input_names=names[:count], output_names=names[count:],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip

    row, both = {0: "batch"}, {0: "batch", 1: "time"}
    encoded = {"encoder_embeddings": both, "encoder_mask": both}
    sound = {"audio_signal": {0: "batch", 2: "time"}, "length": row}
    write(Encoder(), "encoder-model.onnx", (torch.zeros(2, 80, 50), torch.tensor([50, 40])), sound | encoded, 2)
    prompt = torch.zeros(2, 10, dtype=torch.int64)
    example = prompt, torch.zeros(2, 50, 80), torch.ones(2, 50, dtype=torch.int64), torch.zeros(1, 2, 3, 1)
    memory = {1: "batch", 2: "known"}
    axes = {"input_ids": {0: "batch", 1: "new"}, **encoded, "decoder_mems": memory}
    write(Decoder(), "decoder-model.onnx", example, axes | {"logits": row, "decoder_hidden_states": memory}, 4)


@pytest.fixture(scope="module")
def canary(nemo: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001 - torch comes with it
    folder = tmp_path_factory.mktemp("canary")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, and of what tracing fixes
        write_graphs(folder)
    lines = (f"{piece} {number}\n" for number, piece in enumerate(VOCABULARY))
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "nemo-conformer-aed"}))
    return folder


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_a_canary_s_words_are_spread_over_the_sound(canary: Path) -> None:
    engine = OnnxAsrEngine(canary, "canary", ("en", "de"))
    (heard,) = engine.transcribe([noise(2.5)], Options(language="en"))
    assert (heard.text, heard.language) == ("hello there.", "en")
    assert [word.text for word in heard.words] == ["hello", "there."]
    edges = [edge for word in heard.words for edge in (word.start, word.end)]
    assert edges == pytest.approx([0.0, 2.5 * 6 / 13, 2.5 * 6 / 13, 2.5])
    assert [word.confidence for word in heard.words] == pytest.approx([0.5, 0.5])


@pytest.mark.nemo
@pytest.mark.timeout(300)
def test_a_canary_translates(canary: Path) -> None:
    engine = OnnxAsrEngine(canary, "canary", ("en", "de"))
    short, translated = engine.transcribe([noise(0.01), noise(1.0)], Options(language="en", translate_to="de"))
    assert (short.text, translated.text, translated.language) == ("", "hallo.", "de")
    assert engine.info.translates


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, r"config\.json cannot be read"),
        ("{", r"config\.json cannot be read"),
        ("{}", "names the model type None"),
        ('{"model_type": "whisper"}', "names the model type 'whisper'"),
        ('{"model_type": "nemo-conformer-aed"}', "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, config: str | None, why: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelLoadError, match=why):
        OnnxAsrEngine(tmp_path, "broken", ())


def test_a_broken_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nemo-conformer-ctc"}')
    (tmp_path / "vocab.txt").write_text("a 0\n<blk> 1\n")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelLoadError, match=r"model\.onnx"):
        OnnxAsrEngine(tmp_path, "broken", ())
