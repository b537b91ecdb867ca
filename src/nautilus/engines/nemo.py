"""NeMo itself (torch, CPU or CUDA): serves any speech model that NeMo can load from a file or the hub.

CTC models and transducers are called directly (`forward`, then the decoder), not by `transcribe()`, which

- pads what is shorter than a second on both sides, so that its word times are late by up to half a second,
- leaves the modules in training mode, and so is not thread-safe either (NVIDIA-NeMo/Speech#15771),
- lets a CTC word start with the sub-word before it, and so with all of the pause, and end where its last one starts.

The words are the same, which the tests prove; they start and end as they do in every engine. Decoding is greedy.
"""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from math import log
from pathlib import Path
from typing import Any, Final

import numpy as np

from nautilus.engines.base import SHORTEST, EngineInfo
from nautilus.engines.bundle import bundle_beside
from nautilus.engines.ctc import CtcVocabulary, best_path
from nautilus.engines.heard import KEPT_GRAPHS
from nautilus.engines.keywords import KeywordGraph, boosted
from nautilus.engines.nemo_prompt import LanguagePrompt
from nautilus.engines.nemo_transducer import NemoNetwork, lasting
from nautilus.engines.transducer_keywords import Hearing, KeywordTree, respelled
from nautilus.engines.words import UNCALIBRATED, WORD_START, TimedPiece, hypothesis_of, spread_words
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform, Word

TINY: Final = 1e-6
"""The least probability of a token that was chosen all the same: keeps logarithms finite."""

PROMPT: Final = {
    "decodercontext": "",
    "emotion": "<|emo:undefined|>",
    "pnc": "yes",
    "itn": "no",
    "diarize": "no",
    "source_lang": "en",
    "target_lang": "en",
}
"""What a Canary is told where neither the caller nor its own file says anything."""

SPECIAL: Final = re.compile(r"<\|[^|]*\|>")


class NemoEngine:
    """A model run by NeMo, by one thread at a time."""

    reentrant = False

    def __init__(self, name: str, path: Path | None) -> None:
        self._model = load_model(name, path)
        bundle = bundle_beside(path)
        self._calibration = bundle.calibration if bundle else UNCALIBRATED
        self._family = family_of(self._model)
        self._prompt = LanguagePrompt.of(self._model)
        pieces = [] if self._family == "aed" else pieces_of(self._model)
        durations = () if self._family == "aed" else durations_of(self._model)
        self._network = NemoNetwork.of(self._model, durations)
        self.info = EngineInfo(
            name=name,
            family=self._family,
            runtime="nemo",
            device=self._model.device.type,
            languages=self._prompt.languages if self._prompt else languages_of(self._model),
            utterances=bundle is not None and bundle.utterances,
            frame_seconds=float(self._model.cfg.preprocessor.window_stride) * subsampling_of(self._model),
            keywords=self._family == "ctc" or self._network is not None,
            translates=self._family == "aed",
            parameters=sum(parameter.numel() for parameter in self._model.parameters()),
        )
        self.vocabulary = CtcVocabulary(pieces, len(pieces), self.info.frame_seconds)
        self._timed = bool(durations)
        self._graph = lru_cache(KEPT_GRAPHS)(lambda keywords: KeywordGraph(keywords, self.vocabulary))
        self._tree = lru_cache(KEPT_GRAPHS)(lambda keywords: KeywordTree(keywords, self.vocabulary))
        self._hear = {"aed": self._attend, "ctc": self._align}.get(self._family, self._transduce)
        _tell_tokens(self._model, self._family)

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`."""
        heard = [index for index, waveform in enumerate(batch) if len(waveform) >= SHORTEST]
        hypotheses = [Hypothesis("", (), self._language(options))] * len(batch)
        if heard:
            answers = self._hear([batch[index] for index in heard], options)
            for index, answer in zip(heard, answers, strict=True):
                hypotheses[index] = answer
        return hypotheses

    def _align(self, waveforms: Sequence[Waveform], options: Options) -> list[Hypothesis]:
        """Hear with a CTC model."""
        logprobs, frames, *_ = self._forward(waveforms, options)
        graph = self._graph(options.keywords) if options.keywords else None
        hypotheses = []
        for waveform, rows, count in zip(waveforms, logprobs.float().cpu().numpy(), frames.tolist(), strict=True):
            pieces = best_path(rows[:count], self.vocabulary)
            if graph:
                pieces = boosted(rows[:count], pieces, graph)
            seconds = len(waveform) / SAMPLE_RATE
            hypotheses.append(hypothesis_of(pieces, self._language(options), seconds, self._calibration))
        return hypotheses

    def _transduce(self, waveforms: Sequence[Waveform], options: Options) -> list[Hypothesis]:
        """Hear with an RNN-T or TDT model."""
        encoded, frames = self._forward(waveforms, options)
        results = self._model.decoding.rnnt_decoder_predictions_tensor(encoded, frames, return_hypotheses=True)
        hypotheses = []
        for row, (result, waveform) in enumerate(zip(results, waveforms, strict=True)):
            tokens, places = [int(token) for token in result.y_sequence], [int(frame) for frame in result.timestamp]
            lasts = lasting(self._model, encoded[row], tokens, places)[0] if self._timed else None
            pieces = self.transduced(result, lasts)
            if options.keywords and self._network:
                rows = encoded[row, :, : int(frames[row])].T.float().cpu().numpy()
                hearing = Hearing(rows, pieces, [int(token) for token in result.y_sequence], self._network)
                pieces = respelled(hearing, pieces, self._tree(options.keywords))
            hypotheses.append(hypothesis_of(pieces, self._language(options), len(waveform) / SAMPLE_RATE))
        return hypotheses

    def _attend(self, waveforms: Sequence[Waveform], options: Options) -> list[Hypothesis]:
        """Hear with a Canary, by `transcribe()`: only that builds its prompt.

        One that repeats itself without end goes on for as long as the longest waveform of its batch allows.
        """
        from nemo.collections.asr.models.aed_multitask_models import MultiTaskTranscriptionConfig

        # Canary 1 has no word times, and those of a translation would be of words that nobody said.
        times = self._model.prompt_format == "canary2" and options.translate_to in (None, options.language)
        turn = {"role": "user", "slots": self._slots(options, "yes" if times else "no")}
        asked = MultiTaskTranscriptionConfig(
            batch_size=len(waveforms),
            return_hypotheses=True,
            num_workers=0,
            verbose=False,
            prompt={"turns": [turn]},
            enable_chunking=False,  # else a single waveform is heard otherwise than in a batch
        )
        long_enough = [np.pad(waveform, (0, max(0, SAMPLE_RATE - len(waveform)))) for waveform in waveforms]
        results = self._model.transcribe(long_enough, override_config=asked, timestamps=times or None)
        return [
            self._attended(result[0] if isinstance(result, list) else result, len(waveform) / SAMPLE_RATE, options)
            for result, waveform in zip(results, waveforms, strict=True)
        ]

    def _forward(self, waveforms: Sequence[Waveform], options: Options) -> Any:
        """Run the network on zero-padded waveforms."""
        import torch

        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        signal = torch.zeros(len(waveforms), int(lengths.max()))
        for row, waveform in enumerate(waveforms):
            signal[row, : len(waveform)] = torch.as_tensor(waveform)
        sound = {"input_signal": signal, "input_signal_length": lengths}
        if self._prompt:
            number = self._prompt.number(options.language)
            sound["prompt_indices"] = torch.full((len(waveforms),), number, dtype=torch.long)
        with torch.inference_mode():
            return self._model.forward(**{name: tensor.to(self._model.device) for name, tensor in sound.items()})

    def transduced(self, result: Any, durations: Sequence[int] | None = None) -> list[TimedPiece]:
        """Return what a transducer emitted. A token lasts as long as a TDT says, in frames, and at least its own."""
        tokens, frames = [int(token) for token in result.y_sequence], [int(frame) for frame in result.timestamp]
        durations = [1] * len(tokens) if durations is None else [int(duration) for duration in durations]
        size, second = self.vocabulary.blank + 1, self.info.frame_seconds
        return [
            TimedPiece(
                self.vocabulary.pieces[token],
                log(max(TINY, (float(score) * (size - 1) + 1) / size)),  # NeMo scales 1 / size … 1 to 0 … 1
                frame * second,
                (frame + max(1, duration)) * second,
            )
            for token, frame, duration, score in zip(tokens, frames, durations, result.token_confidence, strict=True)
        ]

    def _slots(self, options: Options, timestamp: str) -> dict[str, str]:
        """Fill the slots of the model's prompt: what is asked, else what its file says, else `PROMPT`."""
        slots: dict[str, str | None] = self._model.prompt.get_default_dialog_slots()[0]["slots"]
        target = options.translate_to or options.language
        task = "ast" if options.translate_to not in (None, options.language) else "asr"
        asked = {"source_lang": options.language, "target_lang": target, "timestamp": timestamp, "task": task}
        return {slot: str(asked.get(slot) or given or PROMPT[slot]) for slot, given in slots.items()}

    def _attended(self, result: Any, seconds: float, options: Options) -> Hypothesis:
        times = result.timestamp.get("word", ()) if isinstance(result.timestamp, dict) else ()
        scores = () if result.token_confidence is None else result.token_confidence
        logprob = sum(log(max(TINY, float(score))) for score in scores) / max(1, len(scores))
        text = SPECIAL.sub(" ", result.text)
        words = _timed_words(times, seconds, logprob) if times else spread_words(text, seconds, logprob)
        return Hypothesis(" ".join(word.text for word in words), words, self._language(options))

    def _language(self, options: Options) -> str | None:
        if len(self.info.languages) == 1:
            return self.info.languages[0]
        return options.translate_to or options.language


def _timed_words(times: Sequence[dict[str, Any]], seconds: float, logprob: float) -> tuple[Word, ...]:
    """Return the words of a model that writes times: in order and inside the waveform, whatever it wrote."""
    words: list[Word] = []
    for time in times:
        start = min(seconds, max(float(time["start"]), words[-1].start if words else 0.0))
        end = min(seconds, max(start, float(time["end"])))
        spoken = spread_words(SPECIAL.sub(" ", str(time["word"])), end - start, logprob)
        words += (Word(one.text, start + one.start, min(end, start + one.end), one.confidence) for one in spoken)
    return tuple(words)


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
    """Return ctc, rnnt, tdt, hybrid or aed. Raises ModelLoadError for what is no transcriber."""
    from nemo.collections.asr import models

    kind = type(model).__name__
    if "MultiTalker" in kind:
        raise ModelLoadError(f"Models of the kind {kind} are not served: they need to be told who speaks when.")
    match model:
        case models.EncDecMultiTaskModel():
            return "aed"
        case models.EncDecHybridRNNTCTCModel():
            return "hybrid"
        case models.EncDecRNNTModel():
            return "tdt" if durations_of(model) else "rnnt"
        case models.EncDecCTCModel():
            return "ctc"
    raise ModelLoadError(f"A {kind} does not transcribe speech.")


def durations_of(model: Any) -> tuple[int, ...]:
    """Return the durations that a TDT model chooses from, in encoder frames; none for any other model."""
    return tuple(model.cfg.decoding.get("durations") or ())


def subsampling_of(model: Any) -> int:
    """Return how many feature frames make an encoder frame."""
    return int(model.encoder.subsampling_factor)


def pieces_of(model: Any) -> list[str]:
    """Return the sub-words in the order of the outputs, without the blank, as SentencePiece would mark them."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        characters = model.joint.vocabulary if hasattr(model, "joint") else model.decoder.vocabulary
        return [str(character).replace(" ", WORD_START) for character in characters]
    pieces = [str(piece) for piece in tokenizer.vocab]
    if model.decoding.tokenizer_type == "wpe":  # WordPiece marks what goes on instead of what begins
        return [piece[2:] if piece.startswith("##") else WORD_START + piece for piece in pieces]
    return pieces


def _tell_tokens(model: Any, family: str) -> None:
    """Have NeMo's decoder keep what words need: each token's probability."""
    from omegaconf import OmegaConf, open_dict

    if family == "ctc":
        return
    decoding = model.cfg.decoding
    if family == "aed" and decoding.get("beam", {}).get("beam_size", 1) > 1:
        return  # a search over several hypotheses has no probabilities to give
    confidence = {
        "preserve_frame_confidence": True,
        "preserve_token_confidence": True,
        "exclude_blank": True,
        "method_cfg": {"name": "max_prob", "alpha": 1.0},
    }
    wanted: dict[str, Any] = {"strategy": "greedy_batch", "confidence_cfg": confidence}
    if family == "aed":
        wanted["greedy"] = {"max_generation_delta": decoding.get("beam", {}).get("max_generation_delta", -1)}
    else:
        wanted["tdt_include_token_duration"] = bool(durations_of(model))
    with open_dict(decoding):
        decoding = OmegaConf.merge(decoding, wanted)
    model.change_decoding_strategy(decoding, **({} if family == "aed" else {"verbose": False}))


def languages_of(model: Any) -> tuple[str, ...]:
    """Return the languages that the model's tokenizers are for; most models say nothing."""
    tokenizers = model.cfg.get("tokenizer", {}).get("langs") or ()
    return tuple(dict.fromkeys(language[:2] for language in tokenizers if language != "spl_tokens"))
