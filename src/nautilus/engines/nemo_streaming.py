"""Live streams of cache-aware models in NeMo itself: its own encoder, one chunk at a time, many streams in one call.

What would lie before the beginning of a stream is left out, as in a recording. (NeMo's own pipelines hear it as silence
in the second chunk of a stream without look-ahead, and other words than in a recording.) So streams that begin are
called apart from those that go on. The look-ahead is a setting of NeMo's encoder and not an input: it is changed for a
call and changed back. CTC models and transducers; a transducer's predictor goes on over the ends of utterances.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.base import Live
from nautilus.engines.cache_aware import CacheAwareStreams, Chunking, CtcChunk, StreamState, ctc_chunks, ctc_pieces
from nautilus.engines.export import features_of
from nautilus.engines.features import LogMel
from nautilus.engines.nemo import NemoEngine, durations_of, subsampling_of
from nautilus.engines.nemo_transducer import Said, lasting
from nautilus.engines.words import TimedPiece
from nautilus.errors import UnsupportedError
from nautilus.types import Options, Waveform


class NemoStreamingEngine(NemoEngine):
    """A model run by NeMo; one that is cache-aware hears live streams. See `StreamingEngine`."""

    def __init__(self, name: str, path: Path | None) -> None:
        super().__init__(name, path)
        contexts = {} if self._prompt else contexts_of(self._model)
        second = self.info.frame_seconds
        self._contexts = {round(frames * second, 3): frames for frames in contexts}
        self.info = replace(self.info, look_aheads=tuple(self._contexts))
        if contexts:
            encoder = NemoChunks(self, self._model, contexts)
            factor, overlap = subsampling_of(self._model), encoder.overlap
            chunking = Chunking(
                LogMel(**features_of(self._model)),
                factor,
                overlap,
                overlap + factor - 1,
                second,
                self._language(Options()),
                self._calibration,
            )
            self._streams = CacheAwareStreams(encoder, chunking)

    def open(self, look_ahead: float, /) -> StreamState:
        """Return the state of a stream that has heard nothing; see `StreamingEngine`."""
        return self._streams.open(self._contexts[look_ahead])

    def step(self, batch: Sequence[tuple[StreamState, Waveform]], /) -> list[Live]:
        """Hear a little more of each stream; see `StreamingEngine`."""
        return self._streams.step(batch)

    def cut(self, state: StreamState, /) -> None:
        """End the utterance; see `StreamingEngine`."""
        self._streams.cut(state)

    def finish(self, state: StreamState, /) -> Live:
        """Hear what is left; see `StreamingEngine`."""
        return self._streams.finish(state)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the encoder remembers of a stream, and what a transducer's predictor does."""

    channel: Any
    """Inputs of the attention layers, shape (layers, frames, width)."""
    time: Any
    """Inputs of the convolutions, shape (layers, width, frames)."""
    length: Any
    """Frames of `channel` that were heard; 0 before the first chunk."""
    frames: int = 0
    """Encoder frames that a transducer has decoded."""
    decoder: Any = None
    said: Said | None = None
    """How far the predictor of a TDT has come."""


@dataclass(frozen=True, slots=True)
class TransducerChunk:
    """What a transducer emitted in so many frames, in seconds from their start."""

    frames: int
    pieces: Sequence[TimedPiece]

    def __len__(self) -> int:
        return self.frames


class NemoChunks:
    """A cache-aware model of NeMo's; see `Network`."""

    def __init__(self, engine: NemoEngine, model: Any, contexts: dict[int, int]) -> None:
        self.overlap = int(model.encoder.pre_encode.get_streaming_cache_size()[1])
        """Feature frames that a chunk repeats from the one before."""
        self._engine = engine
        self._timed = bool(durations_of(model))
        self._model = model
        self._contexts = contexts
        self._factor = subsampling_of(model)
        self._padding = self.overlap + self._factor - 1

    def begin(self, look_ahead: int, /) -> Memory:
        """Return empty caches; see `Network`."""
        with self._looking(look_ahead):
            channel, time, length = self._model.encoder.get_initial_cache_state(batch_size=1)
        return Memory(channel[:, 0], time[:, 0], length[0])

    def hear(
        self, signal: NDArray[np.float32], lengths: NDArray[np.int64], memories: Sequence[Memory], look_ahead: int, /
    ) -> tuple[list[Memory], list[CtcChunk | TransducerChunk]]:
        """Hear a chunk of each stream; see `Network`."""
        import torch

        heard: dict[int, tuple[Memory, CtcChunk | TransducerChunk]] = {}
        with self._looking(look_ahead), torch.inference_mode():
            paddings = [self._padding_of(memory) for memory in memories]
            for padding in set(paddings):
                rows = [row for row, frames in enumerate(paddings) if frames == padding]
                chosen = [memories[row] for row in rows]
                emitted = self._hear(signal[rows, :, padding:], lengths[rows] - padding, chosen)
                heard |= zip(rows, emitted, strict=True)
        return [heard[row][0] for row in range(len(memories))], [heard[row][1] for row in range(len(memories))]

    def pieces(self, chunks: Sequence[Any], /) -> list[TimedPiece]:
        """Decode; see `Network`."""
        if not chunks or isinstance(chunks[0], CtcChunk):
            return ctc_pieces(chunks, self._engine.vocabulary)
        found, frames = [], 0
        for chunk in chunks:
            begun = frames * self._engine.info.frame_seconds
            found += [replace(piece, start=begun + piece.start, end=begun + piece.end) for piece in chunk.pieces]
            frames += len(chunk)
        return found

    def _hear(
        self, signal: NDArray[np.float32], lengths: NDArray[np.int64], memories: Sequence[Memory]
    ) -> Sequence[tuple[Memory, CtcChunk | TransducerChunk]]:
        """Hear a chunk of streams that have equally much before it."""
        import torch

        device = self._model.device
        encoded, counts, channel, time, length = self._model.encoder.cache_aware_stream_step(
            processed_signal=torch.from_numpy(signal).to(device),
            processed_signal_length=torch.from_numpy(lengths).to(device),
            cache_last_channel=torch.stack([memory.channel for memory in memories], dim=1),
            cache_last_time=torch.stack([memory.time for memory in memories], dim=1),
            cache_last_channel_len=torch.stack([memory.length for memory in memories]),
            drop_extra_pre_encoded=(self._padding - self._padding_of(memories[0])) // self._factor,
        )
        counts = torch.where(torch.from_numpy(lengths > 0).to(device), counts, 0)  # a stream may end before it begins
        kept = [
            replace(memory, channel=channel[:, row], time=time[:, row], length=length[row])
            for row, memory in enumerate(memories)
        ]
        if self._engine.info.family == "ctc":
            logprobs = self._model.decoder(encoder_output=encoded).float().cpu().numpy()
            return list(zip(kept, ctc_chunks(logprobs, counts.tolist()), strict=True))
        return self._decode(encoded, counts, kept)

    def _decode(self, encoded: Any, counts: Any, memories: Sequence[Memory]) -> list[tuple[Memory, TransducerChunk]]:
        """Decode what a transducer's encoder gives for a chunk, shape (streams, width, frames)."""
        from nemo.collections.asr.parts.utils.rnnt_utils import batched_hyps_to_hypotheses

        computer = self._model.decoding.decoding.decoding_computer
        before = [memory.decoder for memory in memories]
        state = computer.merge_to_batched_state(before) if any(item is not None for item in before) else None
        batched, state = computer(x=encoded.transpose(1, 2), out_len=counts, prev_batched_state=state)
        results = batched_hyps_to_hypotheses(batched, batch_size=len(memories))
        results = self._model.decoding.compute_confidence(results)
        items = computer.split_batched_state(state)
        counted = zip(memories, results, items, counts.tolist(), strict=True)
        return [self._emitted(*one, encoded[row]) for row, one in enumerate(counted)]

    def _emitted(
        self, memory: Memory, result: Any, item: Any, count: int, encoding: Any
    ) -> tuple[Memory, TransducerChunk]:
        """Return what one stream emitted in a chunk of so many frames, with the times of the chunk."""
        result.timestamp = [int(frame) - memory.frames for frame in result.timestamp]
        durations, said = None, memory.said
        if self._timed:
            tokens = [int(token) for token in result.y_sequence]
            durations, said = lasting(self._model, encoding, tokens, result.timestamp, said)
        pieces = self._engine.transduced(result, durations)
        memory = replace(memory, frames=memory.frames + count, decoder=item, said=said)
        return memory, TransducerChunk(count, pieces)

    def _padding_of(self, memory: Memory) -> int:
        """Return how many feature frames of a stream's next chunk lie before its beginning."""
        return max(0, self._padding - self._factor * int(memory.length))

    @contextmanager
    def _looking(self, look_ahead: int) -> Iterator[None]:
        """Have the encoder look ahead so many frames for the length of the block."""
        encoder = self._model.encoder
        usual, wanted = encoder.att_context_size, [self._contexts[look_ahead], look_ahead]
        if wanted == usual:
            yield
            return
        encoder.set_default_att_context_size(wanted)
        try:
            yield
        finally:
            encoder.set_default_att_context_size(usual)


def contexts_of(model: Any) -> dict[int, int]:
    """Return the look-aheads that a model was trained with, best first, and the left context of each: encoder frames.

    None for a model that is not cache-aware, or whose streams would have other features than its recordings.
    """
    encoder = model.encoder
    reach = getattr(getattr(encoder, "pre_encode", None), "get_streaming_cache_size", lambda: 0)()
    causal = getattr(encoder, "att_context_style", "") == "chunked_limited" and encoder.conv_context_size[1] == 0
    if not causal or not isinstance(reach, list) or encoder.reduction_position is not None:
        return {}
    if hasattr(model, "joint") and getattr(model.decoding.decoding, "decoding_computer", None) is None:
        return {}
    try:
        features = features_of(model)
    except UnsupportedError:
        return {}
    contexts = {right: left for left, right in encoder.att_context_size_all if left > 0 and right >= 0}
    return dict(sorted(contexts.items(), reverse=True)) if features["normalize"] == "none" else {}
