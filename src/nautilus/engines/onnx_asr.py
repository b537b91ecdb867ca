"""Offline NeMo families (CTC, RNN-T, TDT, Canary) through the onnx-asr library.

Its features are normalised per recording, which is what these models were trained on.
"""

import json
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Final

import onnx_asr
import onnxruntime as rt
from onnx_asr.asr import TimestampedResult

from nautilus.engines.base import SHORTEST, EngineInfo
from nautilus.engines.words import TimedPiece, hypothesis_of, spread_words
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform

FAMILIES: Final = {
    "nemo-conformer-ctc": "ctc",
    "nemo-conformer-rnnt": "rnnt",
    "nemo-conformer-tdt": "tdt",
    "nemo-conformer-aed": "aed",
}
FEATURE_HOP: Final = 0.01
"""Seconds."""
LONGEST_DURATION: Final = 4
"""Encoder frames that a TDT's token lasts at most in all published models."""


class OnnxAsrEngine:
    """A model in onnx-asr's file layout. Its `transcribe` may be called from several threads at once."""

    reentrant = True

    def __init__(self, folder: Path, name: str, languages: tuple[str, ...]) -> None:
        config = _config(folder)
        self._kind: str = config["model_type"]
        options = rt.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._model = onnx_asr.load_model(self._kind, folder, sess_options=options).with_timestamps()
        except Exception as error:
            raise ModelLoadError(f"The ONNX files in {folder} cannot be loaded: {error}") from error
        self.info = EngineInfo(
            name=name,
            family=FAMILIES[self._kind],
            runtime="onnx",
            device="cuda" if "CUDAExecutionProvider" in rt.get_available_providers() else "cpu",
            languages=languages,
            frame_seconds=FEATURE_HOP * int(config.get("subsampling_factor", 8)),
            translates=FAMILIES[self._kind] == "aed",
        )

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`. A Canary's words are spread over the waveform: it has no times."""
        heard = [index for index, waveform in enumerate(batch) if len(waveform) >= SHORTEST]
        hypotheses = [Hypothesis("", (), self._language(options))] * len(batch)
        if not heard:
            return hypotheses
        waveforms: list[str | Path | Waveform] = [batch[index] for index in heard]
        if self.info.family == "aed":
            target = options.translate_to or options.language
            results = self._model.recognize(waveforms, language=options.language, target_language=target)
        else:
            results = self._model.recognize(waveforms)
        for index, result in zip(heard, results, strict=True):
            hypotheses[index] = self._hypothesis(result, len(batch[index]) / SAMPLE_RATE, self._language(options))
        return hypotheses

    def _hypothesis(self, result: TimestampedResult, seconds: float, language: str | None) -> Hypothesis:
        scores = result.logprobs or []
        if result.timestamps is None:
            words = spread_words(result.text, seconds, sum(scores) / max(1, len(scores)))
            return Hypothesis(" ".join(word.text for word in words), words, language)
        return hypothesis_of(self._pieces(result.tokens or [], result.timestamps, scores), language, seconds)

    def _pieces(self, tokens: Sequence[str], starts: Sequence[float], scores: Sequence[float]) -> list[TimedPiece]:
        """Give ends to tokens, of which onnx-asr tells the starts: the frame's end, as in NeMo.

        A TDT's token lasts until the next one, at most its longest duration: what it predicted is not told.
        """
        longest = (LONGEST_DURATION if self.info.family == "tdt" else 1) * self.info.frame_seconds
        following = [*starts[1:], inf][: len(starts)]
        return [
            TimedPiece(token, score, start, max(start + self.info.frame_seconds, min(start + longest, end)))
            for token, score, start, end in zip(tokens, scores, starts, following, strict=True)
        ]

    def _language(self, options: Options) -> str | None:
        if len(self.info.languages) == 1:
            return self.info.languages[0]
        return options.translate_to or options.language


def _config(folder: Path) -> dict[str, str]:
    try:
        config: dict[str, str] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder}/config.json cannot be read: {error}") from error
    if config.get("model_type") not in FAMILIES:
        raise ModelLoadError(
            f"{folder}/config.json names the model type {config.get('model_type')!r}; known are {', '.join(FAMILIES)}."
        )
    return config
