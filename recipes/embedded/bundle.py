"""Runs a finished bundle the way a server does, for checks and word error rates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor
from recipes.embedded.corpus import to_wave
from recipes.embedded.model import config
from recipes.embedded.scoring import Reader, collapse

Features = npt.NDArray[np.float32]
"""Log-mels, shape [batch, 80, frames] or, for one clip, [80, frames]."""


class FrontEnd:
    """NeMo's log-mel features, which the bundle's description promises."""

    def __init__(self) -> None:
        settings = config(Path())["preprocessor"]
        self._features = AudioToMelSpectrogramPreprocessor(
            **{key: value for key, value in settings.items() if key != "_target_"}
        ).eval()

    def __call__(self, clips: list[npt.NDArray[np.int16]]) -> tuple[Features, npt.NDArray[np.int64]]:
        """Features [batch, 80, frames] and their lengths [batch]."""
        waves = [torch.from_numpy(to_wave(clip)) for clip in clips]
        with torch.inference_mode():
            features, lengths = self._features(
                input_signal=torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
                length=torch.tensor([len(wave) for wave in waves]),
            )
        return features.numpy(), lengths.numpy()


class Bundle:
    """The two graphs of a bundle folder."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.description: dict[str, Any] = json.loads((folder / "nautilus.json").read_text(encoding="utf-8"))
        graphs = self.description["graphs"]
        self.streaming: dict[str, Any] = graphs["streaming"]
        self.pieces = (folder / self.description["tokens"]).read_text(encoding="utf-8").splitlines()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._offline, self._step = (
            onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
            for name in (graphs["offline"], self.streaming["file"])
        )

    def offline(self, features: Features, lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
        """Log-probabilities [frames, sub-words + 1] of each clip of a batch."""
        rows, counts = self._offline.run(None, {"audio_signal": features, "length": lengths})
        return [row[:count] for row, count in zip(rows, counts, strict=True)]

    def stream(self, features: Features, look_ahead: int) -> npt.NDArray[np.float32]:
        """Log-probabilities of one clip [80, frames], chunk by chunk."""
        hop = self.description["subsampling"] * (look_ahead + 1)
        window = hop + self.streaming["pre_encode_cache"]
        caches = [
            np.zeros((1, *self.streaming["cache_last_channel"]), np.float32),
            np.zeros((1, *self.streaming["cache_last_time"]), np.float32),
            np.zeros(1, np.int64),
        ]
        names = [node.name for node in self._step.get_inputs()]
        ready = np.pad(features, ((0, 0), (self.streaming["first_padding"], 0)))
        parts = []
        for start in range(0, ready.shape[1] - self.streaming["pre_encode_cache"] + 1, hop):
            piece = ready[:, start : start + window]
            length = np.array([piece.shape[1]])
            piece = np.pad(piece, ((0, 0), (0, window - piece.shape[1])))[None]
            rows, count, *caches = self._step.run(None, dict(zip(names, [piece, length, *caches], strict=True)))
            parts.append(rows[0, : count[0]])
        return np.concatenate(parts)

    def reader(self, look_ahead: int | None = None) -> Reader:
        """Greedy reading; as a stream if a look-ahead is named."""
        front, blank = FrontEnd(), self.description["blank"]

        def read(clips: list[npt.NDArray[np.int16]]) -> list[list[int]]:
            features, lengths = front(clips)
            if look_ahead is None:
                found = self.offline(features, lengths)
            else:
                found = [self.stream(row[:, :n], look_ahead) for row, n in zip(features, lengths, strict=True)]
            return [collapse(rows.argmax(-1), blank) for rows in found]

        return read
