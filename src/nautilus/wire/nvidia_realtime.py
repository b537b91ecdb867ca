"""NVIDIA's dialect of the Realtime API, which clients of Riva and of its Speech NIMs speak.

    transcription_session.update with `input_audio_params`, `recognition_config`, `endpointing_config`
    append and commit for each piece: the commit means nothing, an utterance ends by its silence or by `force_eou`
    input_audio_buffer.done: nothing more comes ──▶ …completed with `is_last_result`

Source: nvidia-riva-client 2.28, `riva/client/realtime.py`. It takes the transcript of the last `completed` for that of
all, so the one with `is_last_result` has all words of the session.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nautilus.errors import BadRequestError
from nautilus.types import Word

Body = dict[str, Any]

DONE: Final = "input_audio_buffer.done"
HEADED: Final = "none"
"""The `input_audio_format` of clients that send files as they are."""
USUAL_RATE: Final = 16_000


@dataclass(frozen=True, slots=True)
class Dialect:
    """What such a client asked for beyond what others may."""

    headed: bool = False
    """Whether it sends a file, with its header."""
    word_times: bool = False


def is_spoken(session: Mapping[str, Any]) -> bool:
    """Tell whether only these clients send such settings."""
    return "input_audio_params" in session or "recognition_config" in session


def dialect(session: Mapping[str, Any]) -> Dialect:
    """Return what an update asks for beyond OpenAI's settings."""
    recognition = _object(session, "recognition_config")
    return Dialect(session.get("input_audio_format") == HEADED, bool(recognition.get("enable_word_time_offsets")))


def in_openai_s_words(session: Mapping[str, Any]) -> Body:
    """Return an update's settings as OpenAI's older API has them. Raises BadRequestError."""
    params, endpointing = _object(session, "input_audio_params"), _object(session, "endpointing_config")
    headed = session.get("input_audio_format") == HEADED
    if not headed and params.get("num_channels") not in (None, 1):
        raise BadRequestError("Send one channel.", "session.input_audio_params.num_channels")
    sound: Any = session.get("input_audio_format", "pcm16")
    if sound in (HEADED, "pcm16"):
        sound = {"type": "audio/pcm", "rate": params.get("sample_rate_hz") or USUAL_RATE}
    turns = _object(session, "turn_detection")
    if isinstance(silence := endpointing.get("stop_history"), int) and silence > 0:
        turns = turns | {"silence_duration_ms": silence}
    told = {name: value for name, value in _object(session, "input_audio_transcription").items() if value}
    return {"input_audio_format": sound, "turn_detection": turns, "input_audio_transcription": told}


def forces_end(append: Mapping[str, Any]) -> bool:
    """Tell whether an utterance is to end with the sound of an `append`."""
    asked = append.get("runtime_config")
    return isinstance(asked, dict) and str(asked.get("force_eou", "")).lower() == "true"


def result(words: Sequence[Word], asked: Dialect, *, last: bool) -> Body:
    """Return what a `completed` has beyond OpenAI's fields; times in milliseconds."""
    told: Body = {"is_last_result": last}
    if asked.word_times:
        told["words_info"] = {"words": [_word(word) for word in words]}
    return told


def _word(word: Word) -> Body:
    times = {"start_time": round(1000 * word.start), "end_time": round(1000 * word.end)}
    return {"word": word.text, **times, "confidence": round(word.confidence, 3), "speaker_tag": 0}


def _object(session: Mapping[str, Any], name: str) -> Body:
    value = session.get(name) or {}
    if not isinstance(value, dict):
        raise BadRequestError(f"session.{name} must be an object.", f"session.{name}")
    return value
