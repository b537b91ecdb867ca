"""Request bodies as `/docs` shows them; "Try it out" works with these."""

from typing import Any

from nautilus.types import LEVELS
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


COMMON = ("file", "model", "language", "preprocess", "channel")
TRANSCRIPTION = _form(*COMMON, "response_format", "timestamp_granularities[]", "stream", "include[]")
TRANSLATION = _form("file", "model", "response_format", "preprocess", "channel")
NATIVE = _form(*COMMON)
