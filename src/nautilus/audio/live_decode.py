"""A container that is still being recorded, decoded as it comes: WebM or MP4 from a browser, Ogg, MP3 and so on.

    more() ──bytes──▶ FFmpeg asks for them where it needs some ──▶ packets → frames → mono → 16 kHz ──▶ take()

FFmpeg pulls: when it needs more than it was given, all that can be decoded has been, and `more` is called from within
its reading; it always gets as many, so that what is heard does not depend on how they came. Blocking; runs in a decoder
process.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from nautilus.audio.decode import NOT_AUDIO, NOTHING, OPTIONS, RATES, mono, refuse, resampler, sound_track
from nautilus.errors import BadAudioError
from nautilus.types import SAMPLE_RATE, Waveform

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

Container: TypeAlias = Literal["webm", "ogg", "mp4", "auto"]
CONTAINERS: Final[dict[Container, str | None]] = {"webm": "matroska", "ogg": "ogg", "mp4": "mov", "auto": None}
"""FFmpeg's name of each; None: the first bytes tell."""

QUANTUM: Final = 256
"""Bytes that FFmpeg gets at a time, however they came: its MP4 reader errs when it gets very few."""
MOST_AT_ONCE: Final = 60.0
"""Seconds of sound that one piece of bytes may unfold to."""
MOST_WITHOUT_SOUND: Final = 1024**2
"""Bytes that may come without any sound in them: pictures beside it, or what is no sound at all."""
MOST_DAMAGED: Final = 32
"""Packets in a row that cannot be decoded."""

SILENT: Final = "No sound could be decoded from the last MiB. Send one recording from its start, with a sound track."
DAMAGED: Final = "The recording is damaged. Send its bytes in order and from its start, or open another stream."

_OPTIONS: Final = OPTIONS | {
    # Little is looked at in advance, as whoever speaks waits for it.
    "format_probesize": "65536",
    "probesize": "8192",
    "analyzeduration": "100000",
    "max_size": "8192",  # bytes of a WAV packet
    "max_probe_packets": "1",
}

More: TypeAlias = Callable[[], bytes]
"""Gives the next bytes, as soon as there are some; none at the end."""


class LiveDecoder:
    """One stream's container, for the length of `run`."""

    def __init__(self, container: Container, more: More) -> None:
        self._form = CONTAINERS[container]
        self._more = more
        self._data = b""
        self._ended = False
        self._waveforms: list[Waveform] = []
        self._held = 0  # samples in `_waveforms`
        self._rate = 0
        self._resample = resampler(SAMPLE_RATE)
        self._silent_bytes = 0
        self._damaged = 0  # packets in a row

    def run(self) -> None:
        """Decode to the end of the bytes, or of the container. Raises BadAudioError."""
        import av

        with self._open() as container:
            try:
                for packet in container.demux(sound_track(container)):
                    for frame in self._frames(packet.decode):
                        self._keep(frame)
            except av.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                if not self._ended:  # else it is only cut off
                    raise BadAudioError(DAMAGED) from error
            if self._silent_bytes > MOST_WITHOUT_SOUND:
                raise BadAudioError(SILENT)
            self._add(self._resample(NOTHING, last=True))

    def take(self) -> Waveform:
        """Return what was decoded since the last time."""
        waveform = np.concatenate([NOTHING, *self._waveforms])
        self._waveforms, self._held = [], 0
        return waveform

    def read(self, count: int) -> bytes:
        """Give FFmpeg up to so many bytes."""
        while len(self._data) < QUANTUM and not self._ended:
            more = self._more()
            self._ended = not more
            self._data += more
            self._silent_bytes += len(more)
        if self._silent_bytes > MOST_WITHOUT_SOUND:
            return b""  # FFmpeg takes no exception from here
        size = min(count, QUANTUM)
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def _open(self) -> "InputContainer":
        import av

        try:
            return av.open(
                self, "r", self._form, _OPTIONS, buffer_size=65_536, metadata_errors="replace", io_open=refuse
            )
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            raise BadAudioError(NOT_AUDIO) from error

    def _frames(self, decode: "Callable[[], list[AudioFrame]]") -> "list[AudioFrame]":
        import av

        try:
            frames = decode()
        except av.FFmpegError as error:
            self._damaged += 1
            if isinstance(error, MemoryError) or self._damaged > MOST_DAMAGED:
                raise
            return []
        self._damaged = 0
        return [frame for frame in frames if frame.sample_rate in RATES and frame.layout.nb_channels and frame.samples]

    def _keep(self, frame: "AudioFrame") -> None:
        self._silent_bytes = 0
        if frame.sample_rate != self._rate:
            self._add(self._resample(NOTHING, last=True))
            self._rate = frame.sample_rate
            self._resample = resampler(self._rate)
        self._add(self._resample(mono([frame], None)))

    def _add(self, waveform: Waveform) -> None:
        self._waveforms.append(waveform)
        self._held += len(waveform)
        if self._held > MOST_AT_ONCE * SAMPLE_RATE:
            raise BadAudioError("The recording unfolds to more sound than a live stream may bring at once.")
