"""OpenAI's Realtime API for transcription: session settings, and which events there are.

Source: platform.openai.com, guides/realtime-transcription and the types of openai-python (`types/realtime`). Of the
older dialect (`transcription_session.update`) the flat session is understood too, and NVIDIA's (`nvidia_realtime`).
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from nautilus.audio.pcm import RATES, Encoding
from nautilus.errors import BadRequestError
from nautilus.wire import nvidia_realtime
from nautilus.wire.live import DELAYS, USUAL_DELAY
from nautilus.wire.untrusted import read_json

Body = dict[str, Any]

TELEPHONE: Final = 8000
FORMATS: Final[dict[str, tuple[Encoding, int]]] = {
    "audio/pcm": ("pcm16", 24_000),
    "audio/pcmu": ("mulaw", TELEPHONE),
    "audio/pcma": ("alaw", TELEPHONE),
    "pcm16": ("pcm16", 24_000),
    "g711_ulaw": ("mulaw", TELEPHONE),
    "g711_alaw": ("alaw", TELEPHONE),
}
NAMES: Final[dict[Encoding, str]] = {"pcm16": "audio/pcm", "mulaw": "audio/pcmu", "alaw": "audio/pcma"}
OLDER_NAMES: Final[dict[Encoding, str]] = {"pcm16": "pcm16", "mulaw": "g711_ulaw", "alaw": "g711_alaw"}
Kind: TypeAlias = Literal[
    "session.created",
    "session.updated",
    "transcription_session.updated",
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "input_audio_buffer.cleared",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "error",
]
"""Every event that clients are told."""
UPDATES: Final[dict[str, Kind]] = {
    "session.update": "session.updated",
    "transcription_session.update": "transcription_session.updated",
}
"""How each dialect changes its session, and is told of it."""
ACCEPTED: Final = (
    *("input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear", nvidia_realtime.DONE),
    *UPDATES,
)
"""Every event that clients may send."""
INCLUDE_LOGPROBS: Final = "item.input_audio_transcription.logprobs"


@dataclass(frozen=True, slots=True)
class ServerVad:
    """When the server ends an utterance by itself."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500


@dataclass(frozen=True, slots=True)
class RealtimeSession:
    """What a client has asked for so far."""

    id: str = field(default_factory=lambda: f"sess_{os.urandom(12).hex()}")
    model: str | None = None
    language: str | None = None
    delay: str = USUAL_DELAY
    encoding: Encoding = "pcm16"
    rate: int = 24_000
    """Hertz."""
    vad: ServerVad | None = ServerVad()
    """None: the client commits."""
    logprobs: bool = False
    expires_at: int | None = None
    """When the connection is closed, in seconds since 1970."""
    nvidia: nvidia_realtime.Dialect | None = None
    """For a client that speaks NVIDIA's dialect."""

    @property
    def sound(self) -> tuple[Encoding, int, bool]:
        """Return the encoding, the rate, and whether a header may come first."""
        return self.encoding, self.rate, self.nvidia is not None and self.nvidia.headed

    def body(self, model: str) -> Body:
        """Return the session as events show it; `model` is what really hears."""
        audio = {"type": NAMES[self.encoding]} | ({"rate": self.rate} if self.encoding == "pcm16" else {})
        transcription = {"model": model, "language": self.language, "delay": self.delay}
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": self.id,
            "expires_at": self.expires_at,
            "audio": {
                "input": {
                    "format": audio,
                    "transcription": transcription,
                    "noise_reduction": None,
                    "turn_detection": self._turns(),
                }
            },
            "include": [INCLUDE_LOGPROBS] if self.logprobs else None,
        }

    def flat(self, model: str) -> Body:
        """Return the session as the older API shows it."""
        return {
            "id": self.id,
            "object": "realtime.transcription_session",
            "modalities": ["text", "audio"],
            "input_audio_format": OLDER_NAMES[self.encoding],
            "input_audio_transcription": {"model": model, "language": self.language, "prompt": ""},
            "input_audio_noise_reduction": None,
            "turn_detection": self._turns(),
            "include": [INCLUDE_LOGPROBS] if self.logprobs else None,
        }

    def _turns(self) -> Body | None:
        if self.vad is None:
            return None
        return {
            "type": "server_vad",
            "threshold": self.vad.threshold,
            "prefix_padding_ms": self.vad.prefix_padding_ms,
            "silence_duration_ms": self.vad.silence_duration_ms,
        }


def read_event(text: str) -> Body:
    """Read a client's message. Raises BadRequestError."""
    try:
        event = read_json(text)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise BadRequestError("Messages are JSON objects with a 'type'.", "type")
    return event


def read_audio(event: Mapping[str, Any]) -> bytes:
    """Return the sound of an `input_audio_buffer.append`. Raises BadRequestError."""
    try:
        return base64.b64decode(event["audio"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise BadRequestError("audio must be base64.", "audio") from None


def update(session: RealtimeSession, event: Mapping[str, Any]) -> RealtimeSession:
    """Change what an update names, and nothing else. Raises BadRequestError that names the field."""
    given = _object(event.get("session"), "session")
    if nvidia_realtime.is_spoken(given):
        session = replace(session, nvidia=nvidia_realtime.dialect(given))
        given = nvidia_realtime.in_openai_s_words(given)
    sound = _object(_object(given.get("audio") or {}, "session.audio").get("input") or {}, "session.audio.input")
    flat = {"format": "input_audio_format", "transcription": "input_audio_transcription"}
    sound = {name: given[old] for name, old in flat.items() if old in given} | sound
    if "turn_detection" in given:
        sound = {"turn_detection": given["turn_detection"]} | sound
    if "format" in sound:
        encoding, rate = _format(sound["format"])
        session = replace(session, encoding=encoding, rate=rate)
    if sound.get("transcription"):
        session = _transcription(session, _object(sound["transcription"], "transcription"))
    if "turn_detection" in sound:
        session = replace(session, vad=_vad(sound["turn_detection"], session.vad or ServerVad()))
    if "include" in given:
        session = replace(session, logprobs=_includes_logprobs(given["include"]))
    return session


def _includes_logprobs(given: object) -> bool:
    if given is not None and not isinstance(given, list):
        raise BadRequestError("include must be a list.", "session.include")
    return INCLUDE_LOGPROBS in (given or ())


def _text(given: object, name: str) -> str | None:
    if given is not None and not isinstance(given, str):
        raise BadRequestError(f"{name} must be a text.", f"session.audio.input.transcription.{name}")
    return given


def _object(value: object, name: str) -> Body:
    if not isinstance(value, dict):
        raise BadRequestError(f"{name} must be an object.", name)
    return value


def _format(given: object) -> tuple[Encoding, int]:
    name = given.get("type") if isinstance(given, dict) else given
    if not isinstance(name, str) or name not in FORMATS:
        raise BadRequestError(f"format must be one of {', '.join(FORMATS)}.", "session.audio.input.format")
    encoding, usual = FORMATS[name]
    rate = given.get("rate", usual) if isinstance(given, dict) else usual
    if encoding != "pcm16":
        return encoding, TELEPHONE
    if not isinstance(rate, int) or rate not in RATES:
        raise BadRequestError(f"rate must be from {RATES[0]} to {RATES[-1]} Hz.", "session.audio.input.format.rate")
    return encoding, rate


def _transcription(session: RealtimeSession, given: Body) -> RealtimeSession:
    delay = given.get("delay", session.delay) or USUAL_DELAY
    if delay not in DELAYS:
        raise BadRequestError(f"delay must be one of {', '.join(DELAYS)}.", "session.audio.input.transcription.delay")
    language = _text(given.get("language", session.language), "language")
    return replace(session, model=_text(given.get("model", session.model), "model"), language=language, delay=delay)


def _vad(given: object, before: ServerVad) -> ServerVad | None:
    if given is None:
        return None
    values = _object(given, "turn_detection")
    if values.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
        raise BadRequestError("turn_detection.type must be server_vad, or turn_detection null.", "turn_detection.type")
    numbers: dict[str, Any] = {}
    for name in ("threshold", "prefix_padding_ms", "silence_duration_ms"):
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 60_000:  # noqa: PLR2004
            raise BadRequestError(f"turn_detection.{name} must be a number from 0.", f"turn_detection.{name}")
        numbers[name] = value if name == "threshold" else round(value)
    return replace(before, **numbers)
