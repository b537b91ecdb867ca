"""Where somebody speaks: a tiny neural detector, numpy only.

    waveform → log-mels (20 ms) → 4 frames per row → dilated convolutions → one probability per frame

A row of four frames (80 ms) goes through residual convolutions over time, dilated as in WaveNet
(van den Oord et al. 2016), so that each probability sees 1.2 s on either side. Levels are taken
relative to the loud frames of the pass, and two summaries of the whole pass (each band's floor and
mean) reach every row through the first layer, which tells steady noise from speech.
`recipes/vad` trains it with Silero VAD as teacher and measures both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

HOP: Final = 320
"""Samples per frame."""
FRAME_SECONDS: Final = HOP / SAMPLE_RATE
"""Seconds per frame: each has one probability."""
STEP_FRAMES: Final = 896
"""Frames that one pass decides (17.92 s)."""
CONTEXT_FRAMES: Final = 64
"""Frames that a pass hears on either side of those: all that the convolutions reach."""
BANDS: Final = 32
"""Mel bands between 60 and 7,800 Hz."""
ROW: Final = 4
"""Frames per row of the network."""

_FFT: Final = 512
_LEAD: Final = (_FFT - HOP) // 2
_BLOCK: Final = 128
"""Frames transformed at once: small arrays stay in the cache, and the allocator keeps their pages."""
_FLOOR: Final = 1e-6
"""Added to each band's power: about 10 dB above the rounding noise of 16-bit samples."""
_DILATIONS: Final = (1, 2, 4, 8)

Matrix: TypeAlias = NDArray[np.float32]
Probabilities: TypeAlias = NDArray[np.float32]
"""Of speech, one per frame of `FRAME_SECONDS`, shape (frames,)."""


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class VadLimits:
    """What counts as speech, generously: a lost word costs more than a second of noise. All durations in seconds."""

    threshold: float = 0.5
    """Probability at which speech starts."""
    release: float = 0.2
    """Probability under which speech may end; lower than `threshold`, so that spans don't flicker."""
    min_speech: float = 0.2
    """Shorter spans are dropped."""
    min_silence: float = 0.3
    """Shorter gaps are bridged."""
    pad: float = 0.0
    """Added on both sides of each span; spans that then touch become one."""


def speech_probabilities(waveform: Waveform) -> Probabilities:
    """Estimate the probability of speech in each 20 ms, shape (ceil(samples / 320),)."""
    frames = -(-len(waveform) // HOP)
    parts = [_pass(waveform[lo * HOP : hi * HOP])[skip : skip + take] for lo, hi, skip, take in _passes(frames)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def is_warm() -> bool:
    """Return whether all that this needs is in memory, so that it takes a millisecond and not a third of a second."""
    return _weights.cache_info().currsize > 0


def find_spans(probabilities: Probabilities, limits: VadLimits) -> list[Span]:
    """Find the spans of speech in a whole recording, in order, with their padding."""
    finder = SpanFinder(limits)
    found = [*finder.add(probabilities), *finder.finish()]
    end = _seconds(len(probabilities))
    spans: list[Span] = []
    for span in found:
        padded = Span(max(0.0, span.start - limits.pad), min(end, span.end + limits.pad))
        if spans and padded.start <= spans[-1].end:
            padded = Span(spans.pop().start, padded.end)
        spans.append(padded)
    return spans


class SpanFinder:
    """Finds spans in probabilities that arrive bit by bit; pads nothing.

    silent ──p ≥ threshold──▶ speaking ──p < release for min_silence──▶ silent (a span, if long enough)
    """

    def __init__(self, limits: VadLimits) -> None:
        self._limits = limits
        self._min_speech = round(limits.min_speech / FRAME_SECONDS)
        self._min_silence = max(1, round(limits.min_silence / FRAME_SECONDS))
        self._frame = 0
        self._start: int | None = None
        self._end = 0

    def __repr__(self) -> str:
        return f"SpanFinder(heard={self.heard:.2f}, open={self.open})"

    @property
    def heard(self) -> float:
        """Seconds seen so far."""
        return _seconds(self._frame)

    @property
    def open(self) -> Span | None:
        """The span that has started and not ended, up to its last frame of speech."""
        return None if self._start is None else Span(_seconds(self._start), _seconds(self._end))

    def add(self, probabilities: Probabilities) -> list[Span]:
        """Take the next frames; returns the spans that ended in them."""
        spans = []
        release, threshold = self._limits.release, self._limits.threshold
        for frame, probability in enumerate(probabilities.tolist(), self._frame):
            if self._start is None:
                if probability >= threshold:
                    self._start, self._end = frame, frame + 1
            elif probability >= release:
                self._end = frame + 1
            elif frame + 1 - self._end >= self._min_silence:
                spans += self._close()
        self._frame += len(probabilities)
        return spans

    def finish(self) -> list[Span]:
        """Return the span that was still open, if any."""
        return self._close()

    def _close(self) -> list[Span]:
        span, self._start = self.open, None
        if span is None or round((span.end - span.start) / FRAME_SECONDS) < self._min_speech:
            return []
        return [span]


def _seconds(frames: int) -> float:
    return frames * HOP / SAMPLE_RATE


def features(waveform: Waveform) -> tuple[Matrix, Matrix]:
    """Compute what the network sees of one pass: rows of four frames (rows, 128) and a summary (64,)."""
    return rows_of(log_mels(waveform))


def rows_of(mels: Matrix) -> tuple[Matrix, Matrix]:
    """Do so from the log-mels of the pass, shape (frames, BANDS)."""
    energies = mels.mean(axis=1)
    loud = np.partition(energies, int(0.95 * (len(energies) - 1)))[int(0.95 * (len(energies) - 1))]
    mels = np.maximum((mels - loud) * np.float32(0.25), np.float32(-4))
    floor = np.partition(mels, len(mels) // 10, axis=0)[len(mels) // 10]
    summary = np.concatenate((floor, mels.mean(axis=0)))
    padding = np.repeat(mels[-1:], -len(mels) % ROW, axis=0)
    return np.concatenate((mels, padding)).reshape(-1, ROW * BANDS), summary


def _passes(frames: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield, per pass, the first and last frame to hear, how many of these to skip, how many to keep."""
    longest = STEP_FRAMES + 2 * CONTEXT_FRAMES
    done = 0
    while done < frames:
        lo = max(0, done - CONTEXT_FRAMES)
        if frames <= lo + longest:
            lo = max(0, (frames - longest) // ROW * ROW)
            yield lo, frames, done - lo, frames - done
            return
        take = lo + longest - CONTEXT_FRAMES - done
        yield lo, lo + longest, done - lo, take
        done += take


def _pass(waveform: Waveform) -> Probabilities:
    return judge(log_mels(waveform))


def judge(mels: Matrix) -> Probabilities:
    """Run the network over the log-mels of one pass, shape (frames, BANDS); a probability for each frame."""
    rows, summary = rows_of(mels)
    weights = _weights()
    hidden = rows @ weights["in"] + (summary @ weights["summary"] + weights["in_bias"])
    np.maximum(hidden, 0, out=hidden)
    for index, dilation in enumerate(_DILATIONS):
        wide = np.zeros((len(hidden) + 2 * dilation, hidden.shape[1]), np.float32)
        wide[dilation:-dilation] = hidden
        taps = np.concatenate((wide[: -2 * dilation], hidden, wide[2 * dilation :]), axis=1)
        update = taps @ weights[f"conv{index}"] + weights[f"conv{index}_bias"]
        hidden += np.maximum(update, 0, out=update)
    logits = (hidden @ weights["out"] + weights["out_bias"]).reshape(-1)
    return np.asarray(1 / (1 + np.exp(-np.clip(logits[: len(mels)], -30, 30))), np.float32)


def log_mels(waveform: Waveform) -> Matrix:
    """Compute logarithms of the power in each mel band, shape (frames, BANDS)."""
    from scipy.fft import rfft  # six times as fast as NumPy's on float32; late, for it takes its time to import

    frames = -(-len(waveform) // HOP)
    padded = np.zeros((frames - 1) * HOP + _FFT, np.float32)
    padded[_LEAD : _LEAD + len(waveform)] = waveform[: len(padded) - _LEAD]
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::HOP]
    mels = np.empty((frames, BANDS), np.float32)
    for place in range(0, frames, _BLOCK):
        spectrum = rfft(windows[place : place + _BLOCK] * _window(), axis=1)
        np.matmul(spectrum.real**2 + spectrum.imag**2, _mel_filters(), out=mels[place : place + _BLOCK])
    mels += np.float32(_FLOOR)
    return np.asarray(np.log(mels, out=mels), np.float32)


@cache
def _window() -> Matrix:
    return np.hanning(_FFT + 1)[:-1].astype(np.float32)


@cache
def _mel_filters() -> Matrix:
    """Build triangles on the mel scale (O'Shaughnessy 1987), shape (257, BANDS)."""
    mel_edges = np.linspace(_mel(60.0), _mel(7800.0), BANDS + 2)
    edges = 700 * (10 ** (mel_edges / 2595) - 1)
    hertz = np.arange(_FFT // 2 + 1)[:, None] * (SAMPLE_RATE / _FFT)
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


@cache
def _weights() -> dict[str, Matrix]:
    """Read the network's weights, once."""
    with (files("nautilus") / "resources" / "vad.npz").open("rb") as stored, np.load(stored) as arrays:
        return {name: arrays[name].astype(np.float32) for name in arrays.files}
