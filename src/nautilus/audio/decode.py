"""Any recording FFmpeg can read, as mono blocks at `SAMPLE_RATE`. Blocking; knows nothing of processes.

    bytes → packets → frames → runs of like frames → mono → resampled pieces → blocks

The file alone decides what it is: names and content types are never asked. Only demuxers and decoders of sound are
allowed, so that no playlist, image, subtitle or video decoder ever runs, and a file that refers to others is refused.
PyAV and soxr are imported late: the server holds `MediaFacts` without paying for FFmpeg.
"""

import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from nautilus.errors import BadAudioError
from nautilus.types import SAMPLE_RATE, Waveform

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

NOT_AUDIO: Final = (
    "This is not an audio or video file that can be decoded. Send WAV, MP3, FLAC, Ogg, WebM, M4A or similar."
)

DEMUXERS: Final = (
    "wav w64 aiff au caf flac mp3 ogg matroska mov aac ac3 eac3 dts amr amrnb amrwb asf xwma avi flv mpegts mpeg tta wv"
    " ape tak nistsphere voc iff sox ircam dsf mpc mpc8 loas nut truehd mlp qcp qoa shn gsm"
)
DECODERS: Final = (
    "aac aac_latm ac3 eac3 dca mlp truehd mp1float mp2float mp3float mp1 mp2 mp3 flac alac als ape tak tta wavpack"
    " shorten vorbis opus libopus speex amrnb amrwb libopencore_amrnb libopencore_amrwb gsm gsm_ms g722 g723_1 g726"
    " g726le g729 ilbc qcelp evrc truespeech nellymoser qoa mpc7 mpc8 wmav1 wmav2 wmapro wmalossless wmavoice dsd_lsbf"
    " dsd_msbf dsd_lsbf_planar dsd_msbf_planar mace3 mace6 adpcm_ms adpcm_ima_wav adpcm_ima_qt adpcm_yamaha adpcm_swf"
    " adpcm_ima_oki adpcm_ct adpcm_sbpro_2 adpcm_sbpro_3 adpcm_sbpro_4 pcm_alaw pcm_mulaw pcm_u8 pcm_s8 pcm_s8_planar"
    " pcm_s16le pcm_s16be pcm_s16le_planar pcm_s16be_planar pcm_u16le pcm_u16be pcm_s24le pcm_s24be pcm_s24le_planar"
    " pcm_u24le pcm_u24be pcm_s32le pcm_s32be pcm_s32le_planar pcm_u32le pcm_u32be pcm_s64le pcm_s64be pcm_f16le"
    " pcm_f24le pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_bluray pcm_dvd pcm_vidc"
)
OPTIONS: Final = {
    "format_whitelist": DEMUXERS.replace(" ", ","),
    "codec_whitelist": DECODERS.replace(" ", ","),
    "protocol_whitelist": "",
}
_WAV_OPTIONS: Final = OPTIONS | {"max_size": "8192", "max_probe_packets": "1"}
"""Fewer, larger packets, and one of them is enough to find a surround stream posing as PCM: 0.5 ms instead of 4."""

_EXACT: Final = "wav w64 aiff au caf flac ogg matroska mov asf avi tta wv ape tak nistsphere voc sox dsf mpc mpc8"
"""Containers that say how long they are; the other demuxers guess from the bit rate."""

_RUN_VALUES: Final = 131_072
"""Samples times channels after which like frames are converted together: numpy is called seldom, memory stays small."""
RATES: Final = range(1_000, 1_000_001)
"""Hertz. Anything else is a damaged header, and would let a small file unfold into gigabytes."""
_LOUDEST: Final = 1e6  # float samples beyond this are garbage, like NaN
_READ_FAILURES: Final = 32  # how often reading on after an error of the container is tried
_SIZE_UNKNOWN: Final = 0x7F000000  # bytes; recorders that write to a pipe claim about 2 or 4 GiB
_MISSING_SECONDS: Final = 0.25
_MISSING_SHARE: Final = 0.01
NOTHING: Final[Waveform] = np.empty(0, np.float32)

_SAMPLES: Final[dict[str, tuple[type[np.generic], float, float]]] = {
    "u8": (np.uint8, 128.0, 2.0**-7),
    "s16": (np.int16, 0.0, 2.0**-15),
    "s32": (np.int32, 0.0, 2.0**-31),
    "s64": (np.int64, 0.0, 2.0**-63),
    "flt": (np.float32, 0.0, 1.0),
    "dbl": (np.float64, 0.0, 1.0),
}
"""FFmpeg's sample formats: type, middle and scale."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a file says of itself."""

    container: str
    """FFmpeg's name of the container, such as `wav`, `mov` or `matroska`."""
    codec: str
    sample_rate: int
    """Hertz, as recorded."""
    channels: int
    declared_seconds: float | None
    """How long the file says it is; None where it does not say."""


class Decoder:
    """A recording, read block by block as mono float32 at `SAMPLE_RATE`."""

    def __init__(self, file: BinaryIO, channel: int | None = None) -> None:
        self.warnings: tuple[str, ...] = ()
        self._channel = channel
        self._damaged = 0  # packets
        self._gaps = False  # whether sound came after damage
        self._clock = 0.0  # seconds: where the last frame ends by the container's own time
        self._decoded = 0  # samples
        self._waiting: list[Waveform] = []
        self._held = 0  # samples in `_waiting`
        self._container = _open(file)
        try:
            self._stream = sound_track(self._container)
            self.facts = _facts(self._container, self._stream, _said_to_be(file))
        except BaseException:
            self._container.close()
            raise
        self._pieces = self._decode()
        there = self.facts.channels
        if channel is not None and not 0 <= channel < there:
            self.close()
            raise BadAudioError(f"There is no channel {channel}: the recording has {there}, counted from 0.", "channel")

    def read(self, seconds: float) -> Waveform | None:
        """Give the next block, exactly that long but for the last; None at the end, when `warnings` is complete."""
        wanted = round(seconds * SAMPLE_RATE)
        while self._held < wanted and (piece := next(self._pieces, None)) is not None:
            self._waiting.append(piece)
            self._held += len(piece)
            self._decoded += len(piece)
        if not self._held:
            return None
        waiting = np.concatenate(self._waiting)
        block, rest = waiting[:wanted], waiting[wanted:]
        self._waiting, self._held = [rest], len(rest)
        return block

    def close(self) -> None:
        """Free what FFmpeg holds; the file itself stays open."""
        self._pieces.close()
        self._container.close()

    def _decode(self) -> Generator[Waveform, None, None]:
        rate, resample = 0, resampler(SAMPLE_RATE)
        for run in self._runs():
            if run[0].sample_rate != rate:
                yield resample(NOTHING, last=True)
                rate = run[0].sample_rate
                resample = resampler(rate)
            yield resample(mono(run, self._channel))
        yield resample(NOTHING, last=True)
        self._conclude()

    def _runs(self) -> Iterator[list["AudioFrame"]]:
        """Give frames of one format, rate and channel count together, about `_RUN_VALUES` at a time."""
        run: list[AudioFrame] = []
        kind: tuple[str, int, int] | None = None
        values = 0
        for frame in self._frames():
            channels = frame.layout.nb_channels
            now = (frame.format.name, frame.sample_rate, channels)
            if run and (now != kind or values >= _RUN_VALUES):
                yield run
                run, values = [], 0
            run.append(frame)
            kind = now
            values += frame.samples * channels
        if run:
            self._clock = (run[-1].time or 0.0) + run[-1].samples / run[-1].sample_rate
            yield run

    def _frames(self) -> Iterator["AudioFrame"]:
        """Skip what is damaged, and read on after an error of the container: what follows may be whole."""
        import av

        for _ in range(_READ_FAILURES):
            try:
                for packet in self._container.demux(self._stream):
                    try:
                        frames = packet.decode()
                    except av.FFmpegError as error:
                        self._count(error)
                        continue
                    for frame in frames:
                        if frame.sample_rate in RATES and frame.layout.nb_channels and frame.samples:
                            self._gaps = self._damaged > 0
                            yield frame
            except av.FFmpegError as error:
                self._count(error)
            else:
                return

    def _count(self, error: Exception) -> None:
        if isinstance(error, MemoryError):
            raise error
        self._damaged += 1

    def _conclude(self) -> None:
        decoded, declared = self._decoded / SAMPLE_RATE, self.facts.declared_seconds or 0.0
        tolerance = max(_MISSING_SECONDS, _MISSING_SHARE * declared)
        if not self._decoded and (self._damaged or declared > tolerance):
            raise BadAudioError("None of the audio could be decoded; the file is damaged or cut off. Send it again.")
        if self._damaged:
            lost = f"Some of the audio could not be decoded ({self._damaged} damaged packets)"
            self.warnings += (f"{lost}; the transcript may have gaps.",)
        if decoded < declared - tolerance:
            whole_end = self._gaps or self._clock >= declared - tolerance
            what = "Parts of the recording are missing" if whole_end else "The recording ends early"
            self.warnings += (f"{what}: {decoded:.1f} s of {declared:.1f} s could be read.",)


def resampler(rate: int) -> Callable[..., Waveform]:
    """Serve one stretch of constant rate (Hertz); `last` gives the tail that waits for more."""
    import soxr

    if rate == SAMPLE_RATE:
        return lambda x, last=False: x  # noqa: ARG005 - as soxr has it
    resample: Callable[..., Waveform] = soxr.ResampleStream(rate, SAMPLE_RATE, 1, quality="HQ").resample_chunk
    return resample


def _open(file: BinaryIO) -> "InputContainer":
    import av

    file.seek(0)
    head = file.read(12)
    if not head:
        raise BadAudioError("The file is empty.")
    file.seek(0)
    options = _WAV_OPTIONS if head[:4] in {b"RIFF", b"RF64"} and head[8:] == b"WAVE" else OPTIONS
    try:
        return av.open(file, "r", None, options, buffer_size=65_536, metadata_errors="replace", io_open=refuse)
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise BadAudioError(NOT_AUDIO) from error


def refuse(*_: object) -> NoReturn:
    """Let FFmpeg open nothing else."""
    raise BadAudioError("The file refers to other files or addresses; send the audio itself.")


def sound_track(container: "InputContainer") -> "AudioStream":
    """Choose the first track of sound that has a decoder; the others are not even read."""
    import av

    chosen = next((track for track in container.streams.audio if track.codec_context), None)
    if chosen is None:
        raise BadAudioError(NOT_AUDIO if container.streams.audio else "The file has no sound track.")
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = av.stream.Discard.all
    chosen.codec_context.thread_count = 1
    return chosen


def _said_to_be(file: BinaryIO) -> float:
    """Compare a WAV file's word with its size, as FFmpeg believes the smaller; 1 also where the size was not known."""
    position = file.tell()
    there = file.seek(0, io.SEEK_END)
    file.seek(4)
    said = int.from_bytes(file.read(4), "little") + 8
    file.seek(position)
    return said / there if there < said < _SIZE_UNKNOWN else 1.0


def _facts(container: "InputContainer", stream: "AudioStream", longer: float) -> MediaFacts:
    import av

    name, codec = container.format.name.partition(",")[0], stream.codec_context
    lengths = []
    # An MP3 says how long it is only in a Xing or LAME header, whose encoder delay FFmpeg then takes as the start.
    if name in _EXACT.split() or (name == "mp3" and stream.start_time):
        if stream.duration and stream.time_base:
            lengths.append(float(stream.duration * stream.time_base))
        if container.duration and (lengths or len(container.streams) == 1):
            lengths.append(container.duration / av.time_base)
    if lengths and name == "wav":
        lengths = [lengths[0] * longer]
    return MediaFacts(name, codec.codec.canonical_name, codec.sample_rate, codec.channels, min(lengths, default=None))


@np.errstate(over="ignore", invalid="ignore")
def mono(run: list["AudioFrame"], channel: int | None) -> Waveform:
    """Make one float array of like frames: the mean of all channels, or one of them."""
    from av.audio.plane import AudioPlane

    form, channels = run[0].format.name, run[0].layout.nb_channels
    dtype, middle, scale = _SAMPLES[form.removesuffix("p")]
    wanted = range(channels) if channel is None else [min(channel, channels - 1)]
    planes, width = (wanted, 1) if form.endswith("p") else ([0], channels)
    # AudioFrame.planes looks for a NULL that FFmpeg does not promise, so each plane is asked for by number.
    columns: list[NDArray[Any]] = [
        np.concatenate(
            [np.frombuffer(memoryview(AudioPlane(frame, at)), dtype, frame.samples * width) for frame in run]
        )
        for at in planes
    ]
    if width > 1:
        columns = [columns[0][at::width] for at in wanted]
    total = columns[0].astype(np.float32)
    for column in columns[1:]:
        total += column
    total -= middle * len(columns)
    total *= np.float32(scale / len(columns))
    # NaN, infinities and the absurd become silence; the comparison is false for NaN.
    if not np.abs(total).max(initial=0.0) <= _LOUDEST:
        total[~(np.abs(total) <= _LOUDEST)] = 0.0
    return total
