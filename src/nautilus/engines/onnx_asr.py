"""Offline NeMo families (CTC, RNN-T, TDT, Canary) through the onnx-asr library.

Its features are normalised per recording, which is what these models were trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as rt

from nautilus.engines.base import EngineInfo
from nautilus.engines.words import TimedPiece, words_of
from nautilus.errors import ModelLoadError
from nautilus.types import Hypothesis, Options, Waveform

FAMILIES = {
    "nemo-conformer-ctc": "ctc",
    "nemo-conformer-rnnt": "rnnt",
    "nemo-conformer-tdt": "tdt",
    "nemo-conformer-aed": "aed",
}
FEATURE_HOP = 0.01


class OnnxAsrEngine:
    """A model in onnx-asr's file layout. Its `transcribe` may be called from several threads at once."""

    reentrant = True

    def __init__(self, folder: Path, name: str, languages: tuple[str, ...]) -> None:
        import onnx_asr

        config = _config(folder)
        self._kind: str = config["model_type"]
        options = rt.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._model = onnx_asr.load_model(self._kind, folder, sess_options=options).with_timestamps()
        except (OSError, ValueError, RuntimeError) as error:
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
        """Hear a batch; see `Engine`."""
        waveforms: list[str | Path | Waveform] = list(batch)
        if self.info.family == "aed":
            target = options.translate_to or options.language
            results = self._model.recognize(waveforms, language=options.language, target_language=target)
        else:
            results = self._model.recognize(waveforms)
        return [
            self._hypothesis(result.text, result.tokens, result.timestamps, result.logprobs, options)
            for result in results
        ]

    def _hypothesis(
        self,
        text: str,
        tokens: list[str] | None,
        times: list[float] | None,
        logprobs: list[float] | None,
        options: Options,
    ) -> Hypothesis:
        language = options.translate_to or options.language
        if len(self.info.languages) == 1:
            language = self.info.languages[0]
        if not tokens or times is None:
            return Hypothesis(text, (), language)
        scores = logprobs or [0.0] * len(tokens)
        ends = [*times[1:], times[-1] + self.info.frame_seconds]
        pieces = [
            TimedPiece(token, score, start, min(end, start + 4 * self.info.frame_seconds))
            for token, score, start, end in zip(tokens, scores, times, ends, strict=True)
        ]
        return Hypothesis(text, words_of(pieces), language)


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
