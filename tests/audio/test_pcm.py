import io
import wave

import av
import numpy as np
import pytest

from nautilus.audio.pcm import Encoding, PcmStream
from nautilus.types import SAMPLE_RATE, Waveform


def tone(seconds: float, rate: int) -> Waveform:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def read(stream: PcmStream, data: bytes, size: int) -> Waveform:
    parts = [stream.read(data[start : start + size]) for start in range(0, len(data), size)]
    return np.concatenate([*parts, stream.finish()])


def decoded(encoding: str, data: bytes) -> Waveform:
    """What FFmpeg makes of G.711."""
    with av.open(io.BytesIO(data), "r", format=encoding, options={"ar": str(SAMPLE_RATE)}) as container:
        samples = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.asarray(np.concatenate(samples) / 32_768, np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 320, 100_001])
@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
def test_the_size_of_pieces_changes_nothing(rate: int, size: int) -> None:
    data = (tone(0.3, rate) * 32_767).astype("<i2").tobytes()
    waveform = read(PcmStream("pcm16", rate), data, size)
    np.testing.assert_allclose(waveform, read(PcmStream("pcm16", rate), data, len(data)), atol=1e-6)
    assert abs(len(waveform) - round(0.3 * SAMPLE_RATE)) <= 1
    inner = slice(800, -800)
    np.testing.assert_allclose(waveform[inner], tone(0.3, SAMPLE_RATE)[: len(waveform)][inner], atol=0.01)


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_is_what_ffmpeg_makes_of_it(encoding: Encoding) -> None:
    every = bytes(range(256))
    np.testing.assert_allclose(PcmStream(encoding, SAMPLE_RATE).read(every), decoded(encoding, every))


def test_a_wav_s_samples_are_themselves() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        output.writeframes(np.array([0, 32_767, -32_768, 1], "<i2").tobytes())
    data = file.getvalue()[44:]
    assert (PcmStream("pcm16", SAMPLE_RATE).read(data) * 32_768).tolist() == [0, 32_767, -32_768, 1]
