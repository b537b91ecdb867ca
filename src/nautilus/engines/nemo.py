"""NeMo itself (torch, CPU or CUDA): serves any `.nemo` file or hub name that NeMo can load.

`transcribe()` freezes and unfreezes the model and so is not thread-safe (NVIDIA-NeMo/Speech#15771): one thread owns
a model, which the lane sees to since `reentrant` is False.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nautilus.engines.base import EngineInfo
from nautilus.errors import ModelLoadError
from nautilus.types import Hypothesis, Options, Waveform, Word

WORD_TIMES = "word"
SHORTEST = 160
"""Samples of one feature frame."""


class NemoEngine:
    """A model run by NeMo. Made and used on one thread."""

    reentrant = False

    def __init__(self, name: str, path: Path | None) -> None:
        self._model = load_model(name, path)
        self._family = family_of(self._model)
        if self._family != "aed":
            self._tell_words()
        config = self._model.cfg
        stride = float(config.preprocessor.window_stride) * int(config.encoder.get("subsampling_factor", 8))
        self.info = EngineInfo(
            name=name,
            family=self._family,
            runtime="nemo",
            device=self._model.device.type,
            languages=_languages(config),
            frame_seconds=stride,
            translates=self._family == "aed",
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
        )

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`."""
        asked: dict[str, Any] = {}
        if self._family == "aed":
            asked = {"timestamps": True, "source_lang": options.language, "target_lang": options.translate_to}
            asked = {key: value for key, value in asked.items() if value}
        # NeMo's loader cannot take nothing: what is shorter than one feature frame is silence.
        heard = [index for index, waveform in enumerate(batch) if len(waveform) >= SHORTEST]
        hypotheses = [Hypothesis("")] * len(batch)
        if heard:
            results = self._model.transcribe(
                [batch[index] for index in heard],
                batch_size=len(heard),
                return_hypotheses=True,
                num_workers=0,
                verbose=False,
                **asked,
            )
            for index, result in zip(heard, _flat(results), strict=True):
                hypotheses[index] = self._hypothesis(result, options)
        return hypotheses

    def _tell_words(self) -> None:
        """Have the decoder keep word times and confidence (the probability of the best token, averaged)."""
        from omegaconf import OmegaConf, open_dict

        decoding = self._model.cfg.decoding
        confidence = {
            "preserve_token_confidence": True,
            "preserve_word_confidence": True,
            "aggregation": "mean",
            "method_cfg": {"name": "max_prob", "alpha": 1.0},
        }
        with open_dict(decoding):
            decoding.compute_timestamps = True
            decoding.confidence_cfg = OmegaConf.merge(decoding.get("confidence_cfg", {}), confidence)
        self._model.change_decoding_strategy(decoding, verbose=False)

    def _hypothesis(self, result: Any, options: Options) -> Hypothesis:
        language = options.translate_to or options.language
        if len(self.info.languages) == 1:
            language = self.info.languages[0]
        times = result.timestamp.get(WORD_TIMES, []) if isinstance(result.timestamp, dict) else []
        scores = [float(score) for score in result.word_confidence or []]
        if len(scores) != len(times):
            scores = [1.0] * len(times)
        words = tuple(
            Word(
                str(time[WORD_TIMES]),
                self._seconds(time, "start"),
                self._seconds(time, "end"),
                min(1.0, max(0.0, score)),
            )
            for time, score in zip(times, scores, strict=True)
        )
        return Hypothesis(result.text, words, language)

    def _seconds(self, time: dict[str, Any], edge: str) -> float:
        """Return where a word starts or ends. NeMo counts encoder frames, and adds seconds only when asked to."""
        return float(time.get(edge, float(time[f"{edge}_offset"]) * self.info.frame_seconds))


def load_model(name: str, path: Path | None) -> Any:
    """Load a NeMo model from a file or from the hub. Raises ModelLoadError."""
    import torch
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging.setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if path is not None:
            model = ASRModel.restore_from(str(path), map_location=device)
        else:
            model = ASRModel.from_pretrained(name, map_location=device)
    except Exception as error:
        raise ModelLoadError(f"NeMo cannot load {path or name}: {error}") from error
    model.eval()
    return model


def family_of(model: Any) -> str:
    """Return ctc, rnnt, tdt, hybrid or aed."""
    kind = type(model).__name__
    if "MultiTask" in kind:
        return "aed"
    if "Hybrid" in kind:
        return "hybrid"
    if "RNNT" in kind:
        return "tdt" if str(model.cfg.get("loss", {}).get("loss_name", "")) == "tdt" else "rnnt"
    return "ctc"


def _languages(config: Any) -> tuple[str, ...]:
    """Return what the model's configuration says of languages; most say nothing."""
    tokenizers = config.get("tokenizer", {}).get("langs", None)
    return tuple(tokenizers) if tokenizers else ()


def _flat(results: Any) -> list[Any]:
    """Return the best hypothesis of each item: some decoders answer (best, n-best)."""
    return list(results[0]) if isinstance(results, tuple) else list(results)
