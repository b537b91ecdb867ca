"""The teacher: Silero VAD's own sequence graph (MIT, package `silero-vad`), run with onnxruntime."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

CHUNK = 512
"""Samples per probability: 32 ms at 16 kHz."""
CONTEXT = 64
"""Samples of the chunk before that the graph wants in front of each chunk."""
HOP = 320
"""Samples per frame of our own detector: 20 ms."""


class Silero:
    """Speech probabilities of whole waveforms."""

    def __init__(self, graph: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._zeros = np.zeros((1, 1, 128), np.float32)

    def chunks(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One probability per 32 ms."""
        count = -(-len(waveform) // CHUNK)
        padded = np.zeros(CONTEXT + count * CHUNK, np.float32)
        padded[CONTEXT : CONTEXT + len(waveform)] = waveform
        rows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)[::CHUNK]
        feeds = {"input": np.ascontiguousarray(rows), "h": self._zeros, "c": self._zeros}
        answer = self._session.run(["speech_probs"], feeds)[0]
        return np.asarray(answer, np.float32).reshape(-1)

    def frames(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One probability per 20 ms, interpolated between the centres of the chunks."""
        chunks = self.chunks(waveform)
        centres = (np.arange(len(chunks)) + 0.5) * CHUNK
        wanted = (np.arange(-(-len(waveform) // HOP)) + 0.5) * HOP
        return np.interp(wanted, centres, chunks).astype(np.float32)
