"""Streams of cache-aware models, whatever runs the network: here one that says what it is told to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.cache_aware import CacheAwareStreams, Chunking, CtcChunk, ctc_pieces
from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.features import LogMel
from nautilus.engines.words import TimedPiece
from tests.engines.sounds import noise

VOCABULARY = CtcVocabulary(("▁yes", "▁no", "<EOU>"), 3, 0.08)
YES, NO, OVER, BLANK = range(4)


class Says:
    """A network that emits a token for each chunk of one frame."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = iter(tokens)

    def begin(self, look_ahead: int, /) -> int:
        return look_ahead

    def hear(
        self, signal: NDArray[np.float32], lengths: NDArray[np.int64], memories: Sequence[Any], look_ahead: int, /
    ) -> tuple[Sequence[Any], Sequence[CtcChunk]]:
        del signal, lengths, look_ahead
        return memories, [CtcChunk(np.array([next(self._tokens)]), np.zeros(1, np.float32)) for _ in memories]

    def pieces(self, chunks: Sequence[CtcChunk], /) -> list[TimedPiece]:
        return ctc_pieces(chunks, VOCABULARY)


def test_a_model_that_marks_the_end_of_an_utterance_is_believed() -> None:
    streams = CacheAwareStreams(
        Says(BLANK, YES, BLANK, OVER, BLANK, NO, BLANK, BLANK),
        Chunking(LogMel(normalize="none"), subsampling=8, overlap=9, first_padding=16, frame_seconds=0.08),
    )
    state = streams.open(0)
    heard = []
    for _ in range(6):
        (live,) = streams.step([(state, noise(0.08))])
        heard.append((live.hypothesis.text, live.over))
        if live.over:
            streams.cut(state)
    assert ("yes", True) in heard
    assert heard.count(("yes", True)) == 1
    assert all(not over for text, over in heard if text != "yes")
