"""Cache-aware CTC models on ONNX Runtime, stepped for many streams in one call.

Source: Noroozi et al., Stateful Conformer with Cache-based Inference for Streaming ASR (ICASSP 2024). The graph takes
the features of one chunk, those of the convolutions' reach before it, and what the layers remember; a look-ahead of R
encoder frames makes chunks of R + 1. Streams at different positions share a call: nothing depends on the position.

    samples → FeatureStream → chunk of features ─┐
    memory of the layers ────────────────────────┴─ one call for all streams that have a chunk ─→ best token per frame
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np
import onnxruntime as rt
from numpy.typing import NDArray

from nautilus.engines.base import Live
from nautilus.engines.bundle import Bundle, StreamingGraph
from nautilus.engines.ctc import CtcVocabulary, pieces_of
from nautilus.engines.features import Features, FeatureStream
from nautilus.engines.onnx import OnnxEngine, open_session
from nautilus.engines.words import TimedPiece, hypothesis_of
from nautilus.errors import ModelLoadError
from nautilus.types import Waveform

CACHES: Final = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")
INPUTS: Final = ("audio_signal", "length", *CACHES)
OUTPUTS: Final = (
    *("logprobs", "encoded_lengths"),
    *("cache_last_channel_next", "cache_last_time_next", "cache_last_channel_next_len"),
)
"""NeMo's own names."""


@dataclass(slots=True, eq=False)
class StreamState:
    """One stream: what waits to be heard, what the layers remember, and the utterance so far."""

    look_ahead: int
    """Encoder frames."""
    sound: FeatureStream
    waiting: Features
    """Feature frames from the next chunk's first on, shape (mels, frames)."""
    caches: list[NDArray[Any]]
    samples: int = 0
    """Taken so far."""
    frames: int = 0
    """Encoder frames before the utterance."""
    best: list[NDArray[np.intp]] = field(default_factory=list)
    """The most likely token of each frame of the utterance, chunk by chunk."""
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    """Their log-probabilities."""


class OnnxStreamingEngine(OnnxEngine):
    """A bundle with both graphs: whole windows and steps of streams. See `StreamingEngine`."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        if bundle.streaming is None:
            raise ModelLoadError(f"{bundle.name} has no graph for streams; export a cache-aware model.")
        self._streaming: StreamingGraph = bundle.streaming
        self._loading = Lock()

    def open(self, look_ahead: float, /) -> StreamState:
        """Return the state of a stream that has heard nothing; see `StreamingEngine`."""
        with self._loading:
            _ = self._steps
        mels, graph = self._bundle.features.n_mels, self._streaming
        return StreamState(
            look_ahead=graph.look_aheads[self.info.look_aheads.index(look_ahead)],
            sound=FeatureStream(self._bundle.features),
            waiting=np.zeros((mels, graph.first_padding), np.float32),
            caches=[
                np.zeros(graph.cache_last_channel, np.float32),
                np.zeros(graph.cache_last_time, np.float32),
                np.zeros((), np.int64),
            ],
        )

    def step(self, batch: Sequence[tuple[StreamState, Waveform]], /) -> list[Live]:
        """Hear a little more of each stream; see `StreamingEngine`."""
        for state, waveform in batch:
            state.samples += len(waveform)
            state.waiting = np.concatenate([state.waiting, state.sound.add(waveform)], axis=1)
        states = [state for state, _ in batch]
        while ready := [state for state in states if state.waiting.shape[1] >= self._window(state)]:
            for look_ahead in {state.look_ahead for state in ready}:
                self._run([state for state in ready if state.look_ahead == look_ahead])
        return [self._live(state) for state in states]

    def cut(self, state: StreamState, /) -> None:
        """End the utterance; see `StreamingEngine`."""
        state.frames += sum(map(len, state.best))
        state.best, state.scores = [], []

    def finish(self, state: StreamState, /) -> Live:
        """Hear what is left; see `StreamingEngine`."""
        state.waiting = np.concatenate([state.waiting, state.sound.finish()], axis=1)
        while state.waiting.shape[1] > self._streaming.pre_encode_cache:
            self._run([state])
        return self._live(state)

    @cached_property
    def _steps(self) -> rt.InferenceSession:
        """The graph of steps; a server without live streams never loads it."""
        return open_session(self._bundle.folder / self._streaming.file)

    def _hop(self, state: StreamState) -> int:
        return self._bundle.subsampling * (state.look_ahead + 1)

    def _window(self, state: StreamState) -> int:
        """Return how many feature frames a chunk needs: its own, and those of the step before that reach into it."""
        return self._hop(state) + self._streaming.pre_encode_cache

    def _run(self, states: Sequence[StreamState]) -> None:
        """Step streams of one look-ahead by a chunk each; the last chunk of a stream may be short."""
        window, hop = self._window(states[0]), self._hop(states[0])
        signal = np.zeros((len(states), self._bundle.features.n_mels, window), np.float32)
        lengths = np.empty(len(states), np.int64)
        for row, state in enumerate(states):
            chunk = state.waiting[:, :window]
            signal[row, :, : chunk.shape[1]] = chunk
            lengths[row] = chunk.shape[1]
            state.waiting = state.waiting[:, hop:]
        caches = [np.stack(parts) for parts in zip(*(state.caches for state in states), strict=True)]
        logprobs, counts, *caches = self._steps.run(OUTPUTS, dict(zip(INPUTS, (signal, lengths, *caches), strict=True)))
        best = logprobs.argmax(axis=2)
        scores = np.take_along_axis(logprobs, best[:, :, None], axis=2)[:, :, 0]
        for row, state in enumerate(states):
            state.caches = [cache[row] for cache in caches]
            state.best.append(best[row, : counts[row]])
            state.scores.append(scores[row, : counts[row]])

    def _live(self, state: StreamState) -> Live:
        second = self._bundle.frame_seconds
        begun = state.frames * second
        pieces = self._pieces(state)
        until = begun + second * sum(map(len, state.best))
        shifted = [replace(piece, start=begun + piece.start, end=begun + piece.end) for piece in pieces]
        heard = hypothesis_of(shifted, self._language, max(until, begun + second), self._bundle.calibration)
        return Live(heard, until, until - (shifted[-1].end if shifted else begun))

    def _pieces(self, state: StreamState) -> list[TimedPiece]:
        if not state.best:
            return []
        vocabulary: CtcVocabulary = self._vocabulary
        return pieces_of(np.concatenate(state.best), np.concatenate(state.scores), vocabulary)
