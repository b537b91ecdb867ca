import asyncio
import io
import struct
import wave

import numpy as np
import pytest

from nautilus.audio.decode import Decoder
from nautilus.audio.plain_wav import read_plain_wav
from nautilus.types import SAMPLE_RATE


def wav(samples: int = 1600, rate: int = SAMPLE_RATE, channels: int = 1, width: int = 2) -> bytes:
    noise = np.random.default_rng(0).integers(-30_000, 30_000, samples * channels)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((channels, width, rate, 0, "NONE", ""))
        output.writeframes(noise.astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
def test_it_gives_what_the_decoder_gives(channels: int) -> None:
    data = wav(channels=channels)
    plain = read_plain_wav(io.BytesIO(data))
    assert plain is not None
    heard = asyncio.run(plain.read())
    decoder = Decoder(io.BytesIO(data))
    decoded = decoder.read(30)
    decoder.close()
    assert plain.facts == decoder.facts
    np.testing.assert_array_equal(heard, decoded)
    assert asyncio.run(plain.read()) is None


def test_it_does_not_matter_where_the_file_stands() -> None:
    file = io.BytesIO(wav())
    file.seek(99)
    assert read_plain_wav(file) is not None


def test_other_chunks_are_passed_over() -> None:
    data = wav()
    listed = data[:12] + struct.pack("<4sI", b"LIST", 3) + b"abc\0" + data[12:]
    fitting = listed[:4] + struct.pack("<I", len(listed) - 8) + listed[8:]
    assert read_plain_wav(io.BytesIO(fitting)) is not None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(wav()[:40], id="header only"),
        pytest.param(wav()[:-2], id="cut off"),
        pytest.param(wav() + b"xx", id="more than it says"),
        pytest.param(wav(0), id="no samples"),
        pytest.param(wav(rate=8000), id="another rate"),
        pytest.param(wav(width=1), id="8 bits"),
        pytest.param(wav(width=4), id="32 bits"),
        pytest.param(wav(channels=3), id="three channels"),
        pytest.param(wav(31 * SAMPLE_RATE), id="too long"),
        pytest.param(b"RIFX" + wav()[4:], id="big endian"),
        pytest.param(wav()[:20] + struct.pack("<H", 3) + wav()[22:], id="not PCM"),
        pytest.param(b"OggS" + bytes(100), id="another container"),
    ],
)
def test_anything_else_is_for_the_decoder(data: bytes) -> None:
    assert read_plain_wav(io.BytesIO(data)) is None


def test_random_damage_never_raises() -> None:
    generator = np.random.default_rng(1)
    whole = np.frombuffer(wav(200), np.uint8)
    for _ in range(2000):
        data = whole.copy()
        data[generator.integers(0, 60, 3)] = generator.integers(0, 256, 3)
        plain = read_plain_wav(io.BytesIO(data.tobytes()))
        assert plain is None or plain.facts.sample_rate == SAMPLE_RATE
