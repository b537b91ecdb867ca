"""Small files that say, or are, far more than their bytes."""

import struct
from typing import Final

import numpy as np

from tests.audio.media import RECORDERS, encode, record, voice, wav

MOST: Final = 0xFFFFFFFF


def _flac(hours: float) -> bytes:
    """Return silence that takes 3 kB an hour: one number for each 65,535 samples, at the lowest rate that is read."""
    return encode(np.zeros(round(3600 * hours * 1000), np.float32), 1000, "flac", "flac", {"frame_size": "65535"})


def _wav(rate: int = 16_000, channels: int = 1, bits: int = 16, said: int = MOST) -> bytes:
    """Return a header that is believed, with a thousand bytes behind it."""
    frame = min(0xFFFF, channels * bits // 8)
    form = struct.pack("<HHIIHH", 1, channels, rate, min(MOST, rate * frame), frame, bits)
    size = struct.pack("<I", said)
    return b"RIFF" + size + b"WAVEfmt \x10\0\0\0" + form + b"data" + size + bytes(1000)


def _with(data: bytes, box: bytes, fields: bytes, skip: int = 4) -> bytes:
    """Write over what is in an MP4 box; `skip` are the bytes of version and flags before it."""
    place = data.index(box) + len(box) + skip
    return data[:place] + fields + data[place + len(fields) :]


def _mp4(box: bytes, *fields: int) -> bytes:
    whole = encode(voice(0.5, 44_100), 44_100, "ipod", "aac")
    return _with(whole, box, struct.pack(f">{len(fields)}I", *fields))


def _xing() -> bytes:
    data = encode(voice(0.5, 44_100), 44_100, "mp3", "libmp3lame")
    place = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    return data[: place + 8] + struct.pack(">I", MOST) + data[place + 12 :]


def _granule() -> bytes:
    """Return an Ogg file whose last page says that it ends in millions of years, with a wrong checksum."""
    data = record(voice(1.0), RECORDERS["ogg"])
    place = data.rindex(b"OggS") + 6
    return data[:place] + struct.pack("<q", 2**62) + data[place + 8 :]


BOMBS: Final = {
    "a day of silence in FLAC": _flac(24),
    "WAV that says 4 GB": _wav(),
    "WAV of 65,535 channels": _wav(channels=0xFFFF),
    "WAV at 4 GHz": _wav(rate=MOST),
    "WAV at 1 Hz": _wav(rate=1),
    "WAV at 1 MHz, 64 bits, 255 channels": _wav(rate=1_000_000, channels=255, bits=64),
    "WAV of no bits": _wav(bits=0),
    "WAV that says less than it is": wav(voice(0.5))[:40] + bytes(4) + wav(voice(0.5))[44:],
    "MP4 with an edit of years": _mp4(b"elst", 1, MOST, 0, 1 << 16),
    "MP4 with four billion edits": _mp4(b"elst", MOST),
    "MP4 with four billion samples": _mp4(b"stts", 1, MOST, 1024),
    "MP4 with four billion chunks": _mp4(b"stsc", MOST),
    "MP4 with samples of 4 GB": _mp4(b"stsz", MOST, MOST),
    "MP4 with a scale of nothing": _mp4(b"mdhd", 0, 0, 0, MOST),
    "MP3 of four billion frames": _xing(),
    "Ogg that never ends": _granule(),
}
