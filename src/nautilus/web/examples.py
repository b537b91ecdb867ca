"""Requests and answers as `/docs` shows them; "Try it out" works with these."""

from typing import Any

from nautilus.types import LEVELS
from nautilus.web.schemas import TEXT, Schema, ref
from nautilus.wire.forms import FORMATS, GRANULARITIES


def _form(*names: str) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "file": {"type": "string", "format": "binary", "description": "The recording: any audio or video file."},
        "model": {"type": "string", "default": "whisper-1", "description": "A name from /v1/models."},
        "language": {"type": "string", "description": "ISO-639-1 code, e.g. `en`; the model decides if left out."},
        "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
        "timestamp_granularities[]": {
            "type": "array",
            "items": {"type": "string", "enum": list(GRANULARITIES)},
            "description": "With verbose_json.",
        },
        "keywords[]": {"type": "array", "items": {"type": "string"}, "description": "Words and names to expect."},
        "stream": {"type": "boolean", "default": False, "description": "Server-sent events as windows finish."},
        "include[]": {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
        "preprocess": {"type": "string", "enum": list(LEVELS), "description": "Cleaning before the model hears it."},
        "channel": {"type": "integer", "minimum": 0, "description": "Hear this channel instead of the mix."},
    }
    schema = {"type": "object", "required": ["file"], "properties": {name: properties[name] for name in names}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": schema,
                    "encoding": {"timestamp_granularities[]": {"style": "form", "explode": True}},
                }
            },
        }
    }


def error(message: str, code: str, param: str | None = "file", kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return an answer of OpenAI's shape."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"content": {"application/json": {"schema": ref("Error"), "example": {"error": error}}}}


def answer(description: str, schema: Schema, example: Any) -> dict[str, Any]:
    """Return a JSON answer with an example."""
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def text(example: str) -> dict[str, Any]:
    """Return an answer of another type, as OpenAPI has its content."""
    return {"schema": TEXT, "example": example}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request must be changed; the message says how."}
    | error("The file has no sound track.", "bad_audio"),
    404: {"description": "No such model."}
    | error("There is no model named 'x' on this server.", "model_not_found", "model"),
    413: {"description": "Too much audio, or too many bytes."}
    | error("The audio lasts longer than 21600 s; send it in shorter parts.", "audio_too_long"),
    504: {"description": "It took too long; send shorter audio."}
    | error("The request was given up after 3600 s; send shorter audio.", "deadline_exceeded", None, "server_error"),
    503: {"description": "Busy or loading; see Retry-After."}
    | error("Too many requests are waiting; retry in 2 s.", "overloaded", None, "server_error"),
}
_TEXT = "good morning"
_SEGMENT = {
    "id": 0,
    "seek": 24,
    "start": 0.24,
    "end": 1.04,
    "text": _TEXT,
    "tokens": [],
    "temperature": 0.0,
    "avg_logprob": -0.05,
    "compression_ratio": 0.6,
    "no_speech_prob": 0.0,
}
_USAGE = {"type": "duration", "seconds": 2}
TRANSCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The transcript, in the format asked for; server-sent events with `stream=true`.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [ref("Text"), ref("VerboseText")]},
                "examples": {
                    "json": {"value": {"text": _TEXT, "languages": [{"code": "en"}], "usage": _USAGE}},
                    "verbose_json": {
                        "value": {
                            "task": "transcribe",
                            "language": "english",
                            "duration": 1.5,
                            "text": _TEXT,
                            "segments": [_SEGMENT],
                            "usage": _USAGE,
                        }
                    },
                },
            },
            "text/plain": text(_TEXT),
            "application/x-subrip": text(f"1\n00:00:00,240 --> 00:00:01,040\n{_TEXT}\n"),
            "text/vtt": text(f"WEBVTT\n\n00:00:00.240 --> 00:00:01.040\n{_TEXT}\n"),
            "text/event-stream": {"example": f'data: {{"type":"transcript.text.delta","delta":"{_TEXT}"}}\n\n'},
        },
    },
    **ERRORS,
}
_FACTS = {
    "duration": 1.5,
    "sample_rate": 44_100,
    "channels": 2,
    "container": "wav",
    "codec": "pcm_s16le",
    "speech_seconds": 1.5,
    "snr": 38.2,
    "bandwidth": 7968.75,
}
TOLD: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Everything that is known of the transcript. Times are seconds from the recording's start.",
        "content": {
            "application/json": {
                "schema": ref("Transcript"),
                "example": {
                    "text": _TEXT,
                    "language": "en",
                    "model": "nautilus-en-4m",
                    "segments": [{"start": 0.24, "end": 1.04, "text": _TEXT}],
                    "words": [{"word": "good", "start": 0.24, "end": 0.56, "confidence": 0.93}],
                    "audio": _FACTS,
                    "timings": {"decode": 0.002, "enhance": 0.0, "queue": 0.0, "inference": 0.012, "total": 0.016},
                    "warnings": [],
                },
            }
        },
    },
    **ERRORS,
}

COMMON = ("file", "model", "language", "keywords[]", "preprocess", "channel")
TRANSCRIPTION = _form(*COMMON, "response_format", "timestamp_granularities[]", "stream", "include[]")
TRANSLATION = _form("file", "model", "response_format", "preprocess", "channel")
NATIVE = _form(*COMMON)
