"""The decoder alone: what it reads, what it says of damage, what it refuses."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from nautilus.audio.decode import Decoder, MediaFacts
from nautilus.errors import BadAudioError, BadRequestError
from nautilus.types import SAMPLE_RATE, Waveform
from tests.audio.media import Clip, encode, float_wav, likeness, real_clips, sphere, voice, wav

FORMATS = [
    *(("wav", codec, 16000, 1, {}) for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le")),
    *(("wav", codec, 16000, 1, {}) for codec in ("pcm_f64le", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav")),
    ("wav", "pcm_s16le", 8000, 2, {}),
    ("wav", "pcm_s16le", 11025, 1, {}),
    ("wav", "g722", 16000, 1, {}),
    ("wav", "libmp3lame", 44100, 1, {}),
    ("w64", "pcm_s24le", 96000, 1, {}),
    ("aiff", "pcm_s16be", 22050, 2, {}),
    ("au", "pcm_mulaw", 8000, 1, {}),
    ("caf", "pcm_s16le", 48000, 6, {}),
    ("mp3", "libmp3lame", 44100, 2, {}),
    ("mp3", "libmp3lame", 48000, 1, {"q": "5"}),
    ("mp3", "libmp3lame", 8000, 1, {}),
    ("mp2", "mp2", 32000, 1, {}),
    ("flac", "flac", 44100, 2, {}),
    ("ogg", "libopus", 48000, 1, {}),
    ("ogg", "vorbis", 44100, 2, {"strict": "-2"}),
    ("ogg", "flac", 16000, 1, {}),
    ("webm", "libopus", 48000, 2, {}),
    ("matroska", "pcm_s16le", 12000, 1, {}),
    ("ipod", "aac", 44100, 1, {}),
    ("ipod", "alac", 44100, 2, {}),
    ("adts", "aac", 44100, 1, {}),
    ("mpegts", "aac", 48000, 2, {}),
    ("ac3", "ac3", 48000, 6, {}),
    ("asf", "wmav2", 44100, 2, {"b": "128000"}),
    ("tta", "tta", 16000, 1, {}),
    ("wv", "wavpack", 44100, 1, {}),
    ("amr", "libopencore_amrnb", 8000, 1, {"b": "12200"}),
    ("mp4", "video+aac", 44100, 2, {}),
    ("matroska", "video+libopus", 48000, 2, {}),
    ("avi", "video+libmp3lame", 44100, 1, {}),
]


def read_all(decoder: Decoder, seconds: float) -> list[Waveform]:
    blocks = []
    while (block := decoder.read(seconds)) is not None:
        blocks.append(block)
    return blocks


def decode(data: bytes, channel: int | None = None, seconds: float = 60.0) -> tuple[Waveform, Decoder]:
    decoder = Decoder(io.BytesIO(data), channel)
    blocks = read_all(decoder, seconds)
    decoder.close()
    return np.concatenate([np.empty(0, np.float32), *blocks]), decoder


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: "-".join(map(str, form[:4])))
def test_every_promised_format_sounds_like_what_was_recorded(form: tuple[str, str, int, int, dict[str, str]]) -> None:
    container, codec, rate, channels, options = form
    samples, decoder = decode(encode(np.stack([voice(rate=rate)] * channels), rate, container, codec, options))
    least = 0.45 if container == "amr" else 0.995  # a vocoder keeps the sound, not the wave
    assert abs(len(samples) / SAMPLE_RATE - 2.0) < 0.06
    assert likeness(samples, voice()) > least
    assert (decoder.facts.sample_rate, decoder.facts.channels) == (rate, channels)
    assert decoder.warnings == ()


def test_sphere_is_read() -> None:
    samples, decoder = decode(sphere(voice()))
    np.testing.assert_allclose(samples, voice(), atol=1e-4)
    assert decoder.facts == MediaFacts("nistsphere", "pcm_s16le", 16000, 1, 2.0)


def test_pcm_at_the_own_rate_comes_back_sample_by_sample() -> None:
    samples, _ = decode(wav(voice()))
    np.testing.assert_array_equal(samples, np.round(voice() * 32767).astype(np.float32) / 32768)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_loses_neither_the_start_nor_the_tail(rate: int) -> None:
    samples, _ = decode(float_wav(voice(rate=rate), rate))
    assert len(samples) == 2 * SAMPLE_RATE
    assert np.abs(samples - voice())[200:-200].max() < 0.005
    assert likeness(samples[-4000:], voice()[-4000:], 16) > 0.999


@pytest.mark.parametrize("data", [wav(voice(3.1)), encode(voice(3.1, 44100), 44100, "mp3", "libmp3lame")])
def test_blocks_have_exactly_the_length_asked_for_and_join_without_a_seam(data: bytes) -> None:
    decoder = Decoder(io.BytesIO(data))
    blocks = read_all(decoder, 0.5)
    assert [len(block) for block in blocks[:-1]] == [8000] * 6
    np.testing.assert_array_equal(np.concatenate(blocks), decode(data)[0])
    assert decoder.read(0.5) is None


def test_channels_are_averaged_or_picked() -> None:
    left, right = voice(), voice(pitch=210.0)
    data = wav(np.stack([left, right]))
    np.testing.assert_allclose(decode(data)[0], (left + right) / 2, atol=1e-4)
    np.testing.assert_allclose(decode(data, channel=0)[0], left, atol=1e-4)
    np.testing.assert_allclose(decode(data, channel=1)[0], right, atol=1e-4)


def test_planar_channels_are_picked_too() -> None:
    data = encode(np.stack([voice(rate=44100), voice(rate=44100, pitch=210.0)]), 44100, "mp3", "libmp3lame")
    assert likeness(decode(data, channel=1)[0], voice(pitch=210.0)) > 0.99


@pytest.mark.parametrize("channels", [9, 64])
def test_many_channels_are_averaged(channels: int) -> None:
    data = np.stack([voice(0.3)] * channels)
    np.testing.assert_allclose(decode(wav(data))[0], voice(0.3), atol=1e-4)


def test_a_channel_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(BadAudioError, match="no channel 2: the recording has 2, counted from 0") as caught:
        Decoder(io.BytesIO(wav(np.stack([voice(), voice()]))), channel=2)
    assert caught.value.param == "channel"


def test_what_is_not_a_number_becomes_silence() -> None:
    samples = voice().copy()
    samples[100:110] = np.nan, np.inf, -np.inf, 1e30, -1e30, np.nan, np.nan, np.inf, 3e38, np.nan
    heard, _ = decode(float_wav(samples))
    samples[100:110] = 0.0
    np.testing.assert_array_equal(heard, samples)


def test_a_change_of_rate_and_layout_midway_is_followed() -> None:
    stereo = encode(np.stack([voice(rate=44100)] * 2), 44100, "adts", "aac")
    mono = encode(voice(rate=22050), 22050, "adts", "aac")
    samples, _ = decode(stereo + mono)
    assert abs(len(samples) / SAMPLE_RATE - 4.13) < 0.1
    assert likeness(samples[: 2 * SAMPLE_RATE], voice()) > 0.99
    assert likeness(samples[-33000:], voice(), 2400) > 0.99


def test_id3_tags_with_pictures_and_bad_encodings_do_no_harm() -> None:
    title = b"TIT2" + struct.pack(">I", 5) + b"\x00\x00" + b"\x00\xff\xfe\xfd\xfc"
    picture = b"\x00image/png\x00\x03\x00" + b"\x89PNG\r\n\x1a\n" + bytes(2000)
    frames = title + b"APIC" + struct.pack(">I", len(picture)) + b"\x00\x00" + picture
    size = bytes((len(frames) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    data = b"ID3\x03\x00\x00" + size + frames + encode(voice(rate=44100), 44100, "mp3", "libmp3lame")
    samples, decoder = decode(data)
    assert likeness(samples, voice()) > 0.99
    assert decoder.facts.codec == "mp3"


@pytest.mark.parametrize(
    "data",
    [wav(voice(6)), encode(voice(6), 16000, "flac", "flac"), encode(voice(6, 44100), 44100, "mp3", "libmp3lame")],
    ids=["wav", "flac", "mp3"],
)
def test_a_file_that_ends_early_is_read_as_far_as_it_goes_with_a_warning(data: bytes) -> None:
    samples, decoder = decode(data[: len(data) // 2])
    assert 2.0 < len(samples) / SAMPLE_RATE < 4.0
    assert f"The recording ends early: {len(samples) / SAMPLE_RATE:.1f} s of 6.0 s could be read." in decoder.warnings


def test_damaged_packets_are_skipped_counted_and_told() -> None:
    data = bytearray(encode(voice(6, 44100), 44100, "mp3", "libmp3lame"))
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    samples, decoder = decode(bytes(data))
    assert len(samples) / SAMPLE_RATE > 5.5
    assert "damaged packets); the transcript may have gaps." in decoder.warnings[0]


@pytest.mark.parametrize("size", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"], ids=["zero", "unknown"])
def test_a_wav_whose_sizes_were_never_written_is_read_to_its_end(size: bytes) -> None:
    data = wav(voice())
    samples, decoder = decode(data[:4] + size + data[8:40] + size + data[44:] + b"\x01")
    assert (len(samples), decoder.warnings) == (2 * SAMPLE_RATE, ())


def test_a_file_without_samples_is_an_empty_recording() -> None:
    samples, decoder = decode(wav(np.empty(0, np.float32)))
    assert (len(samples), decoder.warnings) == (0, ())


def test_an_empty_upload_is_told() -> None:
    with pytest.raises(BadAudioError, match=r"^The file is empty\.$"):
        Decoder(io.BytesIO())


def test_a_film_without_sound_is_told() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)), None]:
            output.mux(stream.encode(frame))
    with pytest.raises(BadAudioError, match="no sound track"):
        Decoder(file)


def test_a_header_without_sound_behind_it_is_told() -> None:
    data = encode(voice(), 16000, "flac", "flac")
    with pytest.raises(BadAudioError, match="None of the audio could be decoded"):
        decode(data[: data.index(b"\xff\xf8") + 100])


NOT_SOUND: dict[str, Callable[[str], bytes]] = {
    "hls": lambda path: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n".encode(),
    "hls url": lambda _: b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "concat": lambda path: f"ffconcat version 1.0\nfile '{path}'\n".encode(),
    "dash": lambda path: (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet'
        f' mimeType="audio/mp4"><Representation id="0"><BaseURL>{path}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    ).encode(),
    "sdp": lambda _: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "subtitles": lambda _: b"1\n00:00:00,000 --> 00:00:02,000\nHello\n",
    "html": lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "svg": lambda path: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{path}"/></svg>'.encode(),
    "png": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(200),
    "raw pcm": lambda _: np.round(voice() * 32767).astype("<i2").tobytes(),
    "text": lambda _: b"hello " * 1000,
}


@pytest.mark.parametrize("kind", NOT_SOUND)
def test_what_is_not_sound_is_refused_and_nothing_it_names_is_opened(kind: str, tmp_path: Path) -> None:
    real = tmp_path / "real.wav"
    real.write_bytes(wav(voice()))
    with pytest.raises(BadAudioError, match=r"not an audio or video file that can be decoded\. Send WAV"):
        decode(NOT_SOUND[kind](str(real)))


def test_a_rate_that_no_recorder_has_is_refused() -> None:
    with pytest.raises(BadAudioError):
        decode(wav(voice(), rate=1))


def test_ffmpeg_says_nothing_on_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(voice(rate=44100), 44100, "mp3", "libmp3lame")
    decode(data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 :])
    assert capfd.readouterr() == ("", "")


def test_the_server_does_not_load_ffmpeg() -> None:
    code = "import sys, nautilus.audio.sandbox; print('av' in sys.modules, 'soxr' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False False\n"


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_ends_in_sound_or_in_a_clear_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    form = FORMATS[seed % len(FORMATS)]
    data = bytearray(encode(np.stack([voice(0.5, form[2])] * form[3]), form[2], form[0], form[1], form[4]))
    for place in random.integers(0, len(data), 20):
        data[place] = random.integers(0, 256)
    try:
        samples, _ = decode(bytes(data))
    except BadRequestError:
        return
    assert np.isfinite(samples).all()


@pytest.mark.speech
@pytest.mark.skipif(not real_clips(), reason="the folder of real speech is missing")
@pytest.mark.parametrize("clip", real_clips(), ids=lambda clip: clip.path.name)
def test_every_real_file_decodes_in_full_or_is_refused_clearly(clip: Clip) -> None:
    try:
        samples, _ = decode(clip.path.read_bytes())
    except BadRequestError:
        assert not clip.valid
        return
    if clip.seconds is not None:
        assert abs(len(samples) / SAMPLE_RATE - clip.seconds) < 0.1
