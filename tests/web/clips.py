"""Recordings to send, made on the spot."""

import io
import wave
from pathlib import Path

import av
import numpy as np

SPEECH = Path(__file__).parents[2] / "benchmarks" / "sample.flac"
"""Four seconds of synthesised speech."""


def wav(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    """Return a WAV file of a quiet tone."""
    tone = 0.1 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(channels)
        output.setsampwidth(2)
        output.setframerate(rate)
        output.writeframes(np.repeat((tone * 32767).astype("<i2"), channels).tobytes())
    return file.getvalue()


def spoken(times: int) -> bytes:
    """Return a WAV file that says the fixture's sentence again and again."""
    with av.open(SPEECH) as media:
        frames = []
        resampler = av.AudioResampler("s16", "mono", 16_000)
        for frame in media.decode(audio=0):
            frames += [part.to_ndarray() for part in resampler.resample(frame)]
    samples = np.tile(np.concatenate(frames, axis=1)[0], times)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, 16_000, 0, "NONE", ""))
        output.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()
