"""CTC and Canary models in onnx-asr's file layout through that library; its transducers are in `onnx_transducer`.

Its features are normalised per recording, which is what these models were trained on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import onnx_asr
import onnxruntime as rt
from onnx_asr.asr import TimestampedResult

from nautilus.engines.base import SHORTEST, EngineInfo
from nautilus.engines.onnx_transducer import FAMILIES as TRANSDUCERS
from nautilus.engines.onnx_transducer import read_config
from nautilus.engines.words import TimedPiece, hypothesis_of, spread_words
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform

FAMILIES: Final = {
    "nemo-conformer-ctc": "ctc",
    "nemo-conformer-aed": "aed",
}
FEATURE_HOP: Final = 0.01
"""Seconds."""


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
        """Give ends to tokens, of which onnx-asr tells the starts: the frame's end."""
        return [
            TimedPiece(token, score, start, start + self.info.frame_seconds)
            for token, score, start in zip(tokens, scores, starts, strict=True)
        ]

    def _language(self, options: Options) -> str | None:
        if len(self.info.languages) == 1:
            return self.info.languages[0]
        return options.translate_to or options.language


def _config(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    if config.get("model_type") not in FAMILIES:
        known = ", ".join((*FAMILIES, *TRANSDUCERS))
        raise ModelLoadError(
            f"{folder}/config.json names the model type {config.get('model_type')!r}; known are {known}."
        )
    return config
