"""Cache-aware CTC models on ONNX Runtime, stepped for many streams in one call; see `cache_aware`."""

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np
import onnxruntime as rt
from numpy.typing import NDArray

from nautilus.engines.base import Live
from nautilus.engines.bundle import Bundle, StreamingGraph
from nautilus.engines.cache_aware import CacheAwareStreams, Chunking, CtcChunk, StreamState, ctc_chunks, ctc_pieces
from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.onnx import OnnxEngine, open_session
from nautilus.engines.words import TimedPiece
from nautilus.errors import ModelLoadError
from nautilus.types import Waveform

CACHES: Final = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")
INPUTS: Final = ("audio_signal", "length", *CACHES)
OUTPUTS: Final = (
    *("logprobs", "encoded_lengths"),
    *("cache_last_channel_next", "cache_last_time_next", "cache_last_channel_next_len"),
)
"""NeMo's own names."""


class OnnxStreamingEngine(OnnxEngine):
    """A bundle with both graphs: whole windows and steps of streams. See `StreamingEngine`."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        if bundle.streaming is None:
            raise ModelLoadError(f"{bundle.name} has no graph for streams; export a cache-aware model.")
        self._streaming = bundle.streaming
        self._streams = streams_of(bundle, StepGraph(bundle, bundle.streaming), self._language)

    def open(self, look_ahead: float, /) -> StreamState:
        """Return the state of a stream that has heard nothing; see `StreamingEngine`."""
        return self._streams.open(self._streaming.look_aheads[self.info.look_aheads.index(look_ahead)])

    def step(self, batch: Sequence[tuple[StreamState, Waveform]], /) -> list[Live]:
        """Hear a little more of each stream; see `StreamingEngine`."""
        return self._streams.step(batch)

    def cut(self, state: StreamState, /) -> None:
        """End the utterance; see `StreamingEngine`."""
        self._streams.cut(state)

    def finish(self, state: StreamState, /) -> Live:
        """Hear what is left; see `StreamingEngine`."""
        return self._streams.finish(state)


def streams_of(bundle: Bundle, network: "StepGraph", language: str | None = None) -> CacheAwareStreams:
    """Return the streams of a bundle that has a graph for them, by what hears their chunks."""
    graph = network.graph
    chunking = Chunking(
        bundle.features,
        bundle.subsampling,
        graph.pre_encode_cache,
        graph.first_padding,
        bundle.frame_seconds,
        language,
        bundle.calibration,
    )
    return CacheAwareStreams(network, chunking)


class StepGraph:
    """The graph of steps; see `Network`. A server without live streams never loads it."""

    def __init__(self, bundle: Bundle, graph: StreamingGraph) -> None:
        self._bundle = bundle
        self.graph = graph
        self._vocabulary = CtcVocabulary(bundle.pieces, bundle.blank, bundle.frame_seconds)
        self._loading = Lock()

    def begin(self, look_ahead: int, /) -> list[NDArray[Any]]:
        """Return empty caches; see `Network`."""
        del look_ahead  # all have the same
        with self._loading:
            _ = self._session
        return [
            np.zeros(self.graph.cache_last_channel, np.float32),
            np.zeros(self.graph.cache_last_time, np.float32),
            np.zeros((), np.int64),
        ]

    def hear(
        self,
        signal: NDArray[np.float32],
        lengths: NDArray[np.int64],
        memories: Sequence[list[NDArray[Any]]],
        look_ahead: int,
        /,
    ) -> tuple[list[list[NDArray[Any]]], list[CtcChunk]]:
        """Hear a chunk of each stream; see `Network`."""
        del look_ahead  # the length says it
        caches = [np.stack(parts) for parts in zip(*memories, strict=True)]
        logprobs, counts, *caches = self.run(dict(zip(INPUTS, (signal, lengths, *caches), strict=True)))
        kept = [[cache[row] for cache in caches] for row in range(len(memories))]
        return kept, ctc_chunks(logprobs, counts.tolist())

    def run(self, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run the graph: `INPUTS` to `OUTPUTS`."""
        outputs: list[NDArray[Any]] = self._session.run(OUTPUTS, feed)
        return outputs

    def pieces(self, chunks: Sequence[CtcChunk], /) -> list[TimedPiece]:
        """Decode; see `Network`."""
        return ctc_pieces(chunks, self._vocabulary)

    @cached_property
    def _session(self) -> rt.InferenceSession:
        return open_session(self._bundle.folder / self.graph.file)
