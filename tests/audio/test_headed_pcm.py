import io
import wave

import numpy as np
import pytest

from nautilus.audio.headed_pcm import HeadedPcm
from nautilus.audio.pcm import PcmStream
from nautilus.errors import BadAudioError
from nautilus.types import Waveform
from tests.engines.sounds import sample
from tests.web.test_stream import pcm


def wav(samples: bytes, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((channels, width, rate, 0, "NONE", ""))
        output.writeframes(samples)
    return file.getvalue()


def heard(data: bytes, size: int, rate: int = 16_000) -> Waveform:
    reader = HeadedPcm(rate)
    parts = [reader.read(data[start : start + size]) for start in range(0, len(data), size)]
    return np.concatenate([*parts, reader.finish()])


@pytest.mark.parametrize("size", [1, 7, 1000, 10**7])
def test_a_header_is_no_sound_however_it_is_cut(size: int) -> None:
    samples = pcm(sample()[:4000])
    assert np.array_equal(heard(wav(samples), size), PcmStream("pcm16", 16_000).read(samples))


def test_without_a_header_the_rate_is_the_one_that_was_told() -> None:
    samples = pcm(sample()[:4000])
    assert np.array_equal(heard(samples, 999), PcmStream("pcm16", 16_000).read(samples))
    assert len(heard(samples, 999, 8000)) == 8000


def test_channels_are_mixed_and_the_header_s_rate_counts() -> None:
    both = np.stack([sample()[:4000], np.zeros(4000, np.float32)], axis=1).reshape(-1)
    mixed = heard(wav(pcm(both), channels=2), 501)
    assert np.abs(mixed - sample()[:4000] / 2).max() < 1e-4
    assert len(heard(wav(pcm(both[:4000]), 8000), 501)) == 8000


def test_chunks_before_the_samples_are_passed_over() -> None:
    samples = pcm(sample()[:400])
    whole = wav(samples)
    noted = whole[:36] + b"LIST" + (5).to_bytes(4, "little") + b"notes\0" + whole[36:]
    assert np.array_equal(heard(noted, 13), heard(samples, 10**6))


@pytest.mark.parametrize(
    "data",
    [wav(b"x" * 300, width=3), wav(b"x" * 300, rate=96_000), b"RIFF\xff\xff\xff\xffWAVEdata\0\0\0\0" + b"x" * 9],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BadAudioError):
        HeadedPcm(16_000).read(data)


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(BadAudioError):
        heard(b"RIFF\xff\xff\xff\xffWAVE" + b"junk\x08\0\0\0" + b"x" * 8 + (b"junk\x08\0\0\0" + b"x" * 8) * 5000, 4096)
