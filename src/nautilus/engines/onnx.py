"""CTC bundles on ONNX Runtime: our features, one graph, no torch.

The session has one thread of its own and is called by as many worker threads as the lane wants, which on a CPU
beats one call spread over many threads, and shares the weights between them.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as rt

from nautilus.engines.base import SHORTEST, EngineInfo
from nautilus.engines.bundle import Bundle
from nautilus.engines.ctc import CtcVocabulary, best_path
from nautilus.engines.features import Features
from nautilus.engines.heard import KEPT_GRAPHS
from nautilus.engines.keywords import KeywordGraph, boosted
from nautilus.engines.words import hypothesis_of
from nautilus.errors import ModelLoadError
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform

OUTPUTS = ("logprobs", "encoded_lengths")
"""What is asked of a graph; NeMo's own exports have no lengths."""


class OnnxEngine:
    """A CTC model from a bundle. Its `transcribe` may be called from several threads at once."""

    reentrant = True

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._vocabulary = CtcVocabulary(bundle.pieces, bundle.blank, bundle.frame_seconds)
        self._session = open_session(bundle.folder / bundle.offline)
        self._graph = lru_cache(KEPT_GRAPHS)(lambda keywords: KeywordGraph(keywords, self._vocabulary))
        self._outputs = [output.name for output in self._session.get_outputs() if output.name in OUTPUTS]
        self.info = EngineInfo(
            name=bundle.name,
            family=bundle.family,
            runtime="onnx",
            device=session_device(self._session),
            languages=bundle.languages,
            max_seconds=bundle.max_seconds,
            utterances=bundle.utterances,
            packed=bundle.packed,
            frame_seconds=bundle.frame_seconds,
            look_aheads=look_aheads_of(bundle),
            keywords=True,
            parameters=bundle.parameters,
        )

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`."""
        graph = self._graph(options.keywords) if options.keywords else None
        heard = [index for index, waveform in enumerate(batch) if len(waveform) >= SHORTEST]
        hypotheses = [Hypothesis("", (), self._language)] * len(batch)
        for together in [[index] for index in heard] if self._bundle.alone else [heard] if heard else []:
            answers = self._hear([batch[index] for index in together], graph)
            for index, answer in zip(together, answers, strict=True):
                hypotheses[index] = answer
        return hypotheses

    def _hear(self, waveforms: Sequence[Waveform], graph: KeywordGraph | None) -> list[Hypothesis]:
        """Hear waveforms in one call of the network."""
        signal, lengths = padded([self._bundle.features(waveform) for waveform in waveforms])
        logprobs, *counts = self._session.run(self._outputs, {"audio_signal": signal, "length": lengths})
        frames = counts[0] if counts else (lengths - 1) // self._bundle.subsampling + 1
        hypotheses = []
        for waveform, scores, count in zip(waveforms, logprobs, frames, strict=True):
            rows = scores[:count]
            pieces = best_path(rows, self._vocabulary)
            if graph:
                pieces = boosted(rows, pieces, graph)
            seconds = len(waveform) / SAMPLE_RATE
            hypotheses.append(hypothesis_of(pieces, self._language, seconds, self._bundle.calibration))
        return hypotheses

    @property
    def _language(self) -> str | None:
        return self._bundle.languages[0] if len(self._bundle.languages) == 1 else None


def look_aheads_of(bundle: Bundle) -> tuple[float, ...]:
    """Return the look-aheads of a bundle's streaming graph in seconds; none if it has no such graph."""
    frames = bundle.streaming.look_aheads if bundle.streaming else ()
    return tuple(round(count * bundle.frame_seconds, 3) for count in frames)


def open_session(graph: Path) -> rt.InferenceSession:
    """Load a graph for many callers: one thread inside each call; CUDA where this onnxruntime has it."""
    options = rt.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One arena for all threads hands each the memory that another one's cache holds: up to a third slower than malloc.
    options.enable_cpu_mem_arena = False
    wanted = [
        name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in rt.get_available_providers()
    ]
    try:
        return rt.InferenceSession(graph, options, providers=wanted)
    except Exception as error:
        raise ModelLoadError(f"ONNX Runtime cannot load {graph}: {error}") from error


def session_device(session: rt.InferenceSession) -> str:
    """Return where a session really runs: cuda or cpu."""
    return "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"


def padded(features: Sequence[Features]) -> tuple[np.ndarray, np.ndarray]:
    """Stack features of different length, shape (items, mels, frames), zeros after the end of each."""
    lengths = np.array([item.shape[1] for item in features], np.int64)
    signal = np.zeros((len(features), features[0].shape[0], int(lengths.max())), np.float32)
    for row, item in enumerate(features):
        signal[row, :, : item.shape[1]] = item
    return signal, lengths
