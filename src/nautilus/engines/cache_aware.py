"""Streams of cache-aware models, stepped for many streams in one call, whatever runs the network.

Source: Noroozi et al., Stateful Conformer with Cache-based Inference for Streaming ASR (ICASSP 2024). The network takes
the features of one chunk, those of the convolutions' reach before it, and what its layers remember; a look-ahead of R
encoder frames makes chunks of R + 1. Streams at different positions share a call: nothing depends on the position.

    samples → FeatureStream → chunk of features ─┐
    memory of the layers ────────────────────────┴─ one call for all streams that have a chunk ─→ what was emitted
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.base import SHORTEST, Live
from nautilus.engines.ctc import CtcVocabulary, pieces_of
from nautilus.engines.features import Features, FeatureStream, LogMel
from nautilus.engines.words import UNCALIBRATED, Calibration, TimedPiece, hypothesis_of, is_end
from nautilus.types import SAMPLE_RATE, Waveform


@dataclass(frozen=True, slots=True)
class Chunking:
    """How a model's streams are cut into chunks."""

    mel: LogMel
    subsampling: int
    """Feature frames for one encoder frame."""
    overlap: int
    """Feature frames that a chunk repeats from the one before."""
    first_padding: int
    """Feature frames of zeros that stand before the first chunk."""
    frame_seconds: float
    """Length of one encoder frame."""
    language: str | None = None
    calibration: Calibration = UNCALIBRATED


class Chunk(Protocol):
    """What the network emitted for one chunk of a stream."""

    def __len__(self) -> int:
        """Return the encoder frames."""
        ...


class Network(Protocol):
    """One cache-aware model. What it remembers of a stream is its own business."""

    def begin(self, look_ahead: int, /) -> Any:
        """Return what it remembers of a stream that has heard nothing, with so many encoder frames of look-ahead."""
        ...

    def hear(
        self, signal: NDArray[np.float32], lengths: NDArray[np.int64], memories: Sequence[Any], look_ahead: int, /
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """Hear a chunk of each stream, shape (streams, mels, frames); return its memories and each `Chunk`."""
        ...

    def pieces(self, chunks: Sequence[Any], /) -> list[TimedPiece]:
        """Return the sub-words of chunks in a row, in seconds from the start of the first."""
        ...


@dataclass(frozen=True, slots=True)
class CtcChunk:
    """The most likely token of each frame."""

    best: NDArray[np.intp]
    scores: NDArray[np.float32]
    """Their log-probabilities."""

    def __len__(self) -> int:
        return len(self.best)


def ctc_chunks(logprobs: NDArray[np.float32], counts: Sequence[int]) -> list[CtcChunk]:
    """Return what a CTC model emitted, shape (streams, frames, tokens), of which each stream has so many frames."""
    best = logprobs.argmax(axis=2)
    scores = np.take_along_axis(logprobs, best[:, :, None], axis=2)[:, :, 0]
    return [CtcChunk(best[row, :count], scores[row, :count]) for row, count in enumerate(counts)]


def ctc_pieces(chunks: Sequence[CtcChunk], vocabulary: CtcVocabulary) -> list[TimedPiece]:
    """Decode chunks in a row; a sub-word may begin in one and end in the next."""
    if not chunks:
        return []
    best, scores = (np.concatenate(parts) for parts in zip(*((one.best, one.scores) for one in chunks), strict=True))
    return pieces_of(best, scores, vocabulary)


@dataclass(slots=True, eq=False)
class StreamState:
    """One stream: what waits to be heard, what the layers remember, and the utterance so far."""

    look_ahead: int
    """Encoder frames."""
    sound: FeatureStream
    waiting: Features
    """Feature frames from the next chunk's first on, shape (mels, frames)."""
    memory: Any
    samples: int = 0
    """Taken so far."""
    frames: int = 0
    """Encoder frames before the utterance."""
    chunks: list[Any] = field(default_factory=list)
    """What was emitted of the utterance."""


class CacheAwareStreams:
    """Opens and steps streams; see `StreamingEngine`."""

    def __init__(self, network: Network, chunking: Chunking) -> None:
        self._network = network
        self._chunking = chunking

    def open(self, look_ahead: int) -> StreamState:
        """Return the state of a stream that has heard nothing; `look_ahead` in encoder frames."""
        mel = self._chunking.mel
        waiting = np.zeros((mel.n_mels, self._chunking.first_padding), np.float32)
        return StreamState(look_ahead, FeatureStream(mel), waiting, self._network.begin(look_ahead))

    def step(self, batch: Sequence[tuple[StreamState, Waveform]]) -> list[Live]:
        """Hear a little more of each stream."""
        for state, waveform in batch:
            state.samples += len(waveform)
            state.waiting = np.concatenate([state.waiting, state.sound.add(waveform)], axis=1)
        states = [state for state, _ in batch]
        while ready := [state for state in states if state.waiting.shape[1] >= self._window(state)]:
            for look_ahead in {state.look_ahead for state in ready}:
                self._run([state for state in ready if state.look_ahead == look_ahead])
        return [self._live(state) for state in states]

    def cut(self, state: StreamState) -> None:
        """End the utterance."""
        state.frames += sum(map(len, state.chunks))
        state.chunks = []

    def finish(self, state: StreamState) -> Live:
        """Hear what is left."""
        state.waiting = np.concatenate([state.waiting, state.sound.finish()], axis=1)
        while state.samples >= SHORTEST and state.waiting.shape[1] > self._chunking.overlap:
            self._run([state])
        return self._live(state, state.samples / SAMPLE_RATE)

    def _hop(self, state: StreamState) -> int:
        return self._chunking.subsampling * (state.look_ahead + 1)

    def _window(self, state: StreamState) -> int:
        """Return how many feature frames a chunk needs: its own, and those of the step before that reach into it."""
        return self._hop(state) + self._chunking.overlap

    def _run(self, states: Sequence[StreamState]) -> None:
        """Step streams of one look-ahead by a chunk each; the last chunk of a stream may be short."""
        window, hop = self._window(states[0]), self._hop(states[0])
        signal = np.zeros((len(states), self._chunking.mel.n_mels, window), np.float32)
        lengths = np.empty(len(states), np.int64)
        for row, state in enumerate(states):
            chunk = state.waiting[:, :window]
            signal[row, :, : chunk.shape[1]] = chunk
            lengths[row] = chunk.shape[1]
            state.waiting = state.waiting[:, hop:]
        before = [state.memory for state in states]
        memories, chunks = self._network.hear(signal, lengths, before, states[0].look_ahead)
        for state, memory, emitted in zip(states, memories, chunks, strict=True):
            state.memory = memory
            state.chunks.append(emitted)

    def _live(self, state: StreamState, end: float = inf) -> Live:
        """Return what is heard of the utterance; the last frame may reach beyond the `end` of the stream."""
        second = self._chunking.frame_seconds
        begun = state.frames * second
        pieces = self._network.pieces(state.chunks)
        until = min(end, begun + second * sum(map(len, state.chunks)))
        shifted = [replace(piece, start=begun + piece.start, end=begun + piece.end) for piece in pieces]
        heard = hypothesis_of(
            shifted, self._chunking.language, max(until, min(end, begun + second)), self._chunking.calibration
        )
        silence = max(0.0, until - (shifted[-1].end if shifted else begun))
        return Live(heard, until, silence, over=bool(pieces) and is_end(pieces[-1]))
