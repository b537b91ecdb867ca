"""Silero VAD, run by numpy: a second opinion on whether somebody speaks.

    waveform → chunks of 32 ms → magnitudes of four frames → convolutions → LSTM → a probability for each chunk

The network and its weights are those of the package `silero-vad` 6.2.3 (github.com/snakers4/silero-vad, MIT), which
needs PyTorch; `recipes/vad/silero_weights.py` takes them from its ONNX graph, and tests compare both. It has learned
from far more sounds than our own detector (`vad`), takes music and noise for speech less often, and needs ten times as
long.
"""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nautilus.types import Waveform

CHUNK: Final = 512
"""Samples per probability: 32 ms."""
CONTEXT: Final = 64
"""Samples before a chunk that are heard with it."""
_FFT: Final = 256
_HOP: Final = 128
_WIDTH: Final = 3
"""Frames that a convolution sees at once."""
_STRIDES: Final = (1, 2, 2)
"""Of the convolutions over the four frames of a chunk; they leave one."""
_UNITS: Final = 128
"""Of the LSTM."""
_ONE, _HALF = np.float32(1), np.float32(0.5)
_BLOCK: Final = 32
"""Chunks encoded at once, a second: small arrays stay in the cache."""

Matrix: TypeAlias = NDArray[np.float32]


def listen(waveform: Waveform) -> Iterator[Matrix]:
    """Estimate the probability of speech in each 32 ms, ceil(samples / 512) in all, and yield them second by second."""
    if not len(waveform):
        return
    count = -(-len(waveform) // CHUNK)
    padded = np.zeros(CONTEXT + count * CHUNK, np.float32)
    padded[CONTEXT : CONTEXT + len(waveform)] = waveform
    chunks = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)[::CHUNK]
    weights = _weights()
    output = cell = np.zeros(_UNITS, np.float32)
    for place in range(0, count, _BLOCK):
        outputs = []
        for gates in _encode(chunks[place : place + _BLOCK]):
            output, cell = _step(gates, output, cell)
            outputs.append(output)
        logits = np.maximum(outputs, 0) @ weights["out"] + weights["out_bias"]
        yield np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _encode(chunks: Matrix) -> Matrix:
    """Compute what each chunk tells the LSTM's gates, shape (chunks, 4 * _UNITS)."""
    weights = _weights()
    frames = _magnitudes(chunks)
    for index, stride in enumerate(_STRIDES):
        frames = _convolve(frames, weights[f"conv{index}"], weights[f"conv{index}_bias"], stride)
    hidden = np.maximum(frames[:, 0] @ weights["conv3"] + weights["conv3_bias"], 0)
    return np.asarray(hidden @ weights["gates"] + weights["gates_bias"], np.float32)


def _magnitudes(chunks: Matrix) -> Matrix:
    """Compute the spectra of chunks with their context, mirrored at the end, shape (chunks, 4, 129)."""
    from scipy.fft import rfft  # six times as fast as NumPy's on float32; late, for it takes its time to import

    mirrored = np.concatenate((chunks, chunks[:, -2 : -2 - CONTEXT : -1]), axis=1)
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, _FFT, axis=1)[:, ::_HOP]
    return np.asarray(np.abs(rfft(frames * _window(), axis=2)), np.float32)


def _convolve(frames: Matrix, matrix: Matrix, bias: Matrix, stride: int) -> Matrix:
    """Convolve over frames, with one of zeros on either side, and rectify; `matrix` is (3 * in, out)."""
    chunks, count, width = frames.shape
    wide = np.zeros((chunks, count + 2, width), np.float32)
    wide[:, 1:-1] = frames
    last = count - _WIDTH + 2
    taps = np.concatenate([wide[:, tap : tap + last + 1 : stride] for tap in range(_WIDTH)], axis=2)
    product = taps.reshape(-1, _WIDTH * width) @ matrix + bias
    np.maximum(product, 0, out=product)
    return np.asarray(product.reshape(chunks, -1, len(bias)), np.float32)


def _step(gates: Matrix, output: Matrix, cell: Matrix) -> tuple[Matrix, Matrix]:
    """Go one chunk on with an LSTM (Hochreiter and Schmidhuber 1997): its next output and cell.

    Gates are in the order input, output, forget, cell, as in ONNX. The first three are logistic, which is a hyperbolic
    tangent of half of what they are given; the weights have been halved.
    """
    curved = np.tanh(gates + output @ _weights()["recurrent"])
    into, out, kept = ((curved[: 3 * _UNITS] + _ONE) * _HALF).reshape(3, _UNITS)
    cell = kept * cell + into * curved[3 * _UNITS :]
    return out * np.tanh(cell), cell


@cache
def _window() -> Matrix:
    return np.hanning(_FFT + 1)[:-1].astype(np.float32)


@cache
def _weights() -> dict[str, Matrix]:
    """Read the network's weights, once."""
    with (files("nautilus") / "resources" / "silero.npz").open("rb") as stored, np.load(stored) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    halved = np.ones(4 * _UNITS, np.float32)
    halved[: 3 * _UNITS] /= 2
    return weights | {name: weights[name] * halved for name in ("gates", "gates_bias", "recurrent")}
