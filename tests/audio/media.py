"""Writes test media: the same two seconds of a voice-like sound in any container and codec."""

import io
import json
import os
import struct
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from nautilus.types import SAMPLE_RATE, Waveform

Samples = NDArray[np.float32]

SPEECH = Path(os.environ.get("NAUTILUS_TEST_SPEECH", Path(__file__).parents[3] / "shared" / "speech"))
"""The folder of real speech; tests that need it are marked `speech`."""


def voice(seconds: float = 2.0, rate: int = SAMPLE_RATE, pitch: float = 130.0) -> Samples:
    """Harmonics of a gliding pitch, in syllables: the same sound at whatever rate it is sampled."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (pitch * time + 6 * np.sin(2 * np.pi * 0.7 * time))
    tones = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 3 * time)
    return np.asarray(0.25 * tones * syllables, np.float32)


def encode(channels: Samples, rate: int, container: str, codec: str, options: dict[str, str] | None = None) -> bytes:
    """Write shape (channels, samples) or (samples,) with PyAV; `video+` before the codec puts a picture track first."""
    planes = np.atleast_2d(channels)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(planes)]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        picture: Any = output.add_stream("mpeg4", rate=5) if codec.startswith("video+") else None
        stream: Any = output.add_stream(codec.removeprefix("video+"), rate=rate, options=options or {})
        stream.layout = layout
        if picture:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            black = [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)) for _ in range(10)]
            for packet in [packet for frame in [*black, None] for packet in picture.encode(frame)]:
                output.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


class _Pipe:
    """A file that can only be written on."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


@dataclass(frozen=True)
class Recorder:
    """What records live: a container of unknown length that can't be gone back in."""

    container: str
    codec: str
    options: dict[str, str]


RECORDERS: dict[str, Recorder] = {
    "webm": Recorder("webm", "libopus", {"live": "1", "cluster_time_limit": "1000"}),
    "ogg": Recorder("ogg", "libopus", {"page_duration": "100000"}),
    "mp4": Recorder("mp4", "aac", {"movflags": "empty_moov+default_base_moof", "frag_duration": "200000"}),
}
"""As browsers record: Chrome and Firefox WebM, Firefox Ogg, Safari fragmented MP4."""


def record(samples: Samples, recorder: Recorder, rate: int = 48_000) -> bytes:
    """Write samples at `SAMPLE_RATE` to a pipe, as a browser's MediaRecorder does."""
    pipe = _Pipe()
    with av.open(pipe, "w", format=recorder.container, options=recorder.options) as output:
        stream: Any = output.add_stream(recorder.codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return bytes(pipe.data)


def wav(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """Write 16-bit PCM without FFmpeg; shape (samples,) or (channels, samples)."""
    planes = np.atleast_2d(samples)
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((len(planes), 2, rate, 0, "NONE", ""))
        output.writeframes(np.round(planes.T * 32767).astype("<i2").tobytes())
    return file.getvalue()


def float_wav(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """Write 32-bit float PCM as it is, NaN and all."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, rate, rate * 4, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def sphere(samples: Samples, rate: int = SAMPLE_RATE) -> bytes:
    """Write a NIST SPHERE file."""
    fields = {"sample_count": len(samples), "sample_n_bytes": 2, "channel_count": 1, "sample_rate": rate}
    lines = [f"{name} -i {value}" for name, value in fields.items()]
    header = "\n".join(["NIST_1A", "   1024", *lines, "sample_byte_format -s2 01", "end_head", ""])
    return header.encode().ljust(1024) + np.round(samples * 32767).astype("<i2").tobytes()


def likeness(heard: Waveform, said: Samples, most_lag: int = 960) -> float:
    """Correlation at the best lag (samples at `SAMPLE_RATE`) of two recordings that start together."""
    length = min(len(heard), len(said)) - 2 * most_lag
    middle = said[most_lag : most_lag + length].astype(np.float64)
    heard = heard[: length + 2 * most_lag].astype(np.float64)
    size = 1 << (len(heard) + length).bit_length()
    dots = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(middle, size).conj(), size)[: 2 * most_lag + 1]
    power = np.concatenate([[0.0], np.cumsum(heard**2)])
    return float((dots / np.sqrt((power[length:] - power[:-length]) * (middle @ middle) + 1e-12)).max())


@dataclass(frozen=True)
class Clip:
    """A line of the manifests of real files."""

    path: Path
    seconds: float | None
    valid: bool


def real_clips() -> list[Clip]:
    """All of the sets `formats` and `odd`; nothing where the folder is missing."""
    clips = []
    for manifest in (SPEECH / "formats.jsonl", SPEECH / "odd.jsonl"):
        for line in manifest.read_text().splitlines() if manifest.exists() else ():
            row = json.loads(line)
            valid = row.get("expect", "transcript") == "transcript" and row["duration"] is not None
            clips.append(Clip(SPEECH / row["audio_filepath"], row["duration"], valid))
    return clips
