"""RNN-T and TDT models on ONNX Runtime: our features, a batched greedy search, keywords, and a language to be told.

The files are in onnx-asr's layout, as `nautilus export` writes them and hubs offer them: `encoder-model.onnx`,
`decoder_joint-model.onnx`, `vocab.txt` and `config.json`. Exports say more in `config.json` than onnx-asr asks for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from nautilus.engines.base import SHORTEST, EngineInfo
from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.features import LogMel
from nautilus.engines.heard import KEPT_GRAPHS
from nautilus.engines.lattice import Floats, Indices
from nautilus.engines.nemo_prompt import LanguagePrompt
from nautilus.engines.onnx import open_session, padded, session_device
from nautilus.engines.transducer_keywords import Hearing, KeywordTree, respelled
from nautilus.engines.words import TimedPiece, hypothesis_of
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform

CONFIG: Final = "config.json"
ENCODER: Final = "encoder-model.onnx"
DECODER: Final = "decoder_joint-model.onnx"

FAMILIES: Final = {"nemo-conformer-rnnt": "rnnt", "nemo-conformer-tdt": "tdt"}
INPUTS: Final = ("encoder_outputs", "targets", "target_length", "input_states_1", "input_states_2")
OUTPUTS: Final = ("outputs", "output_states_1", "output_states_2")


class OnnxTransducerEngine:
    """A transducer from a folder. Its `transcribe` may be called from several threads at once."""

    reentrant = True

    def __init__(self, folder: Path, name: str, languages: tuple[str, ...]) -> None:
        config = read_config(folder)
        pieces = _pieces(folder)
        family = FAMILIES[config["model_type"]]
        self._features = features_of(config)
        self._encoder = open_session(folder / ENCODER)
        self._network = OnnxNetwork(folder / DECODER, len(pieces), timed=family == "tdt")
        self._most = int(config.get("max_tokens_per_step", 10))
        self._prompt = LanguagePrompt(config["prompts"]) if config.get("prompts") else None
        subsampling = int(config.get("subsampling_factor", 8))
        self._vocabulary = CtcVocabulary(pieces[:-1], len(pieces) - 1, subsampling * self._features.hop / SAMPLE_RATE)
        self._tree = lru_cache(KEPT_GRAPHS)(lambda keywords: KeywordTree(keywords, self._vocabulary))
        self.info = EngineInfo(
            name=name,
            family=family,
            runtime="onnx",
            device=session_device(self._encoder),
            languages=self._prompt.languages if self._prompt else tuple(config.get("languages", ())) or languages,
            frame_seconds=self._vocabulary.frame_seconds,
            keywords=True,
            parameters=config.get("parameters"),
        )

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`."""
        heard = [index for index, waveform in enumerate(batch) if len(waveform) >= SHORTEST]
        hypotheses = [Hypothesis("", (), self._language(options))] * len(batch)
        if not heard:
            return hypotheses
        encoded, frames = self._encode([batch[index] for index in heard], options)
        for row, (index, said) in enumerate(zip(heard, self._search(encoded, frames), strict=True)):
            pieces = said.pieces(self._vocabulary)
            if options.keywords:
                hearing = Hearing(encoded[row, : frames[row]], pieces, said.tokens, self._network)
                pieces = respelled(hearing, pieces, self._tree(options.keywords))
            seconds = len(batch[index]) / SAMPLE_RATE
            hypotheses[index] = hypothesis_of(pieces, self._language(options), seconds)
        return hypotheses

    def _encode(self, waveforms: Sequence[Waveform], options: Options) -> tuple[Floats, Indices]:
        """Return encodings, shape (items, frames, width), and how many frames of each are real."""
        signal, lengths = padded([self._features(waveform) for waveform in waveforms])
        feed = {"audio_signal": signal, "length": lengths}
        if self._prompt:
            feed["prompt_index"] = np.full(len(waveforms), self._prompt.number(options.language), np.int64)
        outputs, frames = self._encoder.run(["outputs", "encoded_lengths"], feed)
        return np.ascontiguousarray(outputs.transpose(0, 2, 1)), frames

    def _search(self, encoded: Floats, frames: Indices) -> list["Said"]:
        """Take the best token in each frame, of all items at once, until all are through."""
        said = [Said() for _ in encoded]
        states = self._network.start(len(encoded))
        blank = self._vocabulary.blank
        last = np.full(len(encoded), blank)
        while going := [row for row, one in enumerate(said) if one.frame < frames[row]]:
            heard = encoded[going, [said[row].frame for row in going], :, None]
            scores, after = self._network.run(heard, last[going], states[:, :, going])
            labels, lasting = scores[:, 0, : blank + 1], scores[:, 0, blank + 1 :]
            best = labels.argmax(axis=1).tolist()
            durations = lasting.argmax(axis=1).tolist() if self._network.durations else [0] * len(going)
            for place, (row, token, duration) in enumerate(zip(going, best, durations, strict=True)):
                if token == blank:
                    said[row].wait(duration)
                else:
                    said[row].say(token, float(_log_softmax(labels[place])[token]), duration, self._most)
                    states[:, :, row], last[row] = after[:, :, place], token
        return said

    def _language(self, options: Options) -> str | None:
        return self.info.languages[0] if len(self.info.languages) == 1 else options.language


@dataclass(slots=True)
class Said:
    """What the search has said of an item so far."""

    frame: int = 0
    """Where it listens next."""
    tokens: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    """The frame that each token was said in."""
    durations: list[int] = field(default_factory=list)
    """How long a TDT says that it lasts, in frames."""
    scores: list[float] = field(default_factory=list)
    """Log-probabilities."""
    here: int = 0
    """Tokens said in this frame."""

    def wait(self, duration: int) -> None:
        """Go on without a word."""
        self.frame += max(1, duration)
        self.here = 0

    def say(self, token: int, score: float, duration: int, most: int) -> None:
        """Say a token, at most so many in one frame."""
        self.tokens.append(token)
        self.starts.append(self.frame)
        self.durations.append(duration)
        self.scores.append(score)
        self.here += 1
        if duration or self.here == most:
            self.wait(duration)

    def pieces(self, vocabulary: CtcVocabulary) -> list[TimedPiece]:
        """Give times: a token lasts as long as a TDT says, and at least the frame it came in."""
        second = vocabulary.frame_seconds
        return [
            TimedPiece(vocabulary.pieces[token], score, start * second, (start + max(1, duration)) * second)
            for token, start, duration, score in zip(self.tokens, self.starts, self.durations, self.scores, strict=True)
        ]


class OnnxNetwork:
    """Prediction and joint network in one graph; see `lattice.Network`."""

    def __init__(self, graph: Path, tokens: int, *, timed: bool) -> None:
        self._session = open_session(graph)
        inputs = {one.name: one for one in self._session.get_inputs()}
        outputs = self._session.get_outputs()
        if missing := {*INPUTS} - {*inputs}:
            raise ModelLoadError(f"{graph} takes no {', '.join(sorted(missing))}. Export the model again.")
        self._whole = np.int32 if inputs["targets"].type == "tensor(int32)" else np.int64
        self._shapes = [(inputs[name].shape[0], inputs[name].shape[2]) for name in INPUTS[3:]]
        self._tokens = tokens
        self.durations = tuple(range(_width(outputs[0].shape, tokens) - tokens)) if timed else ()

    def start(self, count: int, /) -> Floats:
        """Return zeros."""
        return np.stack([np.zeros((layers, count, width), np.float32) for layers, width in self._shapes])

    def say(self, frames: Floats, tokens: Indices, states: Floats, /) -> tuple[Floats, Floats, Floats]:
        """Say a token each, and listen."""
        scores, after = self.run(np.ascontiguousarray(frames.transpose(0, 2, 1)), tokens, states)
        labels, lasting = np.split(scores, [self._tokens], axis=2)
        return _log_softmax(labels), _log_softmax(lasting) if lasting.size else lasting, after

    def run(self, encoding: Floats, tokens: Indices, states: Floats) -> tuple[Floats, Floats]:
        """Return scores of tokens and durations, shape (items, frames, outputs), which are no probabilities yet.

        `encoding` has shape (items, width, frames); also returns the new states.
        """
        feed = (encoding, tokens[:, None].astype(self._whole), np.ones(len(tokens), self._whole), *states)
        scores, *after = self._session.run(OUTPUTS, dict(zip(INPUTS, feed, strict=True)))
        return scores[:, :, 0], np.stack(after)


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json`. Raises ModelLoadError."""
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder}/config.json cannot be read: {error}") from error
    return config


def is_transducer(folder: Path) -> bool:
    """Whether `config.json` says that this engine serves the folder. Raises ModelLoadError."""
    return read_config(folder).get("model_type") in FAMILIES


def features_of(config: dict[str, Any]) -> LogMel:
    """Return the features that `config.json` describes. Raises ModelLoadError."""
    try:
        return LogMel(**config.get("features", {"n_mels": config.get("features_size", 80), "normalize": "per_feature"}))
    except TypeError as error:
        raise ModelLoadError(
            f"config.json describes features that nobody computes: {error}. Export it again."
        ) from error


def _log_softmax(scores: Floats) -> Floats:
    """Normalise the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal


def _pieces(folder: Path) -> tuple[str, ...]:
    """Read the sub-words in the order of the outputs; the blank is the last one."""
    try:
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        pieces = tuple(line[: line.rindex(" ")] for line in lines)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{folder}/vocab.txt cannot be read: {error}. Fetch or export the model again.") from error
    if pieces[-1] != "<blk>":
        raise ModelLoadError(f"{folder}/vocab.txt does not end with <blk>. Fetch or export the model again.")
    return pieces


def _width(shape: Sequence[Any], tokens: int) -> int:
    """Return the number of outputs; a graph that leaves it open has five durations, as all published models do."""
    return shape[-1] if isinstance(shape[-1], int) else tokens + 5
