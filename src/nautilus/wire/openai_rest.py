"""Transcripts → the bodies of OpenAI's audio API.

Source: openai/openai-openapi, schemas CreateTranscriptionResponse*, and the types of openai-python.
"""

import json
import zlib
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Any, Final, TypeAlias

from nautilus.errors import NautilusError
from nautilus.types import Segment, Transcript, Word
from nautilus.wire.forms import TranscriptionForm
from nautilus.wire.languages import language_name
from nautilus.wire.subtitles import srt, vtt

JSON: Final = "application/json"
MEDIA_TYPES: Final = {
    "json": JSON,
    "verbose_json": JSON,
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

EmitText: TypeAlias = Callable[[str], Awaitable[None]]
"""Takes one server-sent event."""


def render(transcript: Transcript, form: TranscriptionForm) -> str:
    """Render a transcript in the format that the form asks for."""
    match form.response_format:
        case "text":
            return transcript.text + "\n"
        case "srt":
            return srt(transcript.segments)
        case "vtt":
            return vtt(transcript.segments)
        case "verbose_json":
            return dumps(verbose(transcript, form))
        case "json":
            return dumps(plain(transcript, form))


def plain(transcript: Transcript, form: TranscriptionForm) -> dict[str, Any]:
    """Return the body of `response_format=json`."""
    body: dict[str, Any] = {"text": transcript.text}
    if transcript.language:
        body["languages"] = [{"code": transcript.language}]
    if form.logprobs:
        body["logprobs"] = [entry for word in transcript.words for entry in logprobs(word)]
    return body | {"usage": usage(transcript.audio.duration)} | _warnings(transcript, form)


def verbose(transcript: Transcript, form: TranscriptionForm) -> dict[str, Any]:
    """Return the body of `response_format=verbose_json`."""
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": language_name(transcript.language),
        "duration": round(transcript.audio.duration, 3),
        "text": transcript.text,
    }
    if "segment" in form.granularities:
        body["segments"] = [segment_body(number, segment) for number, segment in enumerate(transcript.segments)]
    if "word" in form.granularities:
        body["words"] = [
            {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)} for word in transcript.words
        ]
    return body | {"usage": usage(transcript.audio.duration)} | _warnings(transcript, form)


def segment_body(number: int, segment: Segment) -> dict[str, Any]:
    """Return one segment with all ten fields, none of them null: strict clients fail the whole call otherwise."""
    tokens = [token for word in segment.words for token in word.tokens]
    text = segment.text
    encoded = text.encode()
    return {
        "id": number,
        "seek": int(segment.start * 100),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(token.logprob for token in tokens) / len(tokens), 4) if tokens else 0.0,
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4) if encoded else 1.0,
        "no_speech_prob": 0.0,
    }


def logprobs(word: Word) -> list[dict[str, Any]]:
    """Return a word's sub-words as OpenAI's token log-probabilities."""
    return [
        {"token": token.text, "logprob": round(token.logprob, 5), "bytes": list(token.text.encode())}
        for token in word.tokens
    ]


def usage(seconds: float) -> dict[str, Any]:
    """Return what is billed elsewhere: whole seconds of audio."""
    return {"type": "duration", "seconds": ceil(seconds)}


def delta(words: tuple[Word, ...], form: TranscriptionForm, *, first: bool) -> str:
    """Return the server-sent event for words that a window added."""
    text = " ".join(word.text for word in words)
    body: dict[str, Any] = {"type": "transcript.text.delta", "delta": text if first else f" {text}"}
    if form.logprobs:
        body["logprobs"] = [entry for word in words for entry in logprobs(word)]
    return event(body)


def done(transcript: Transcript, form: TranscriptionForm) -> str:
    """Return the server-sent events that end a stream well."""
    return event({"type": "transcript.text.done"} | plain(transcript, form)) + "data: [DONE]\n\n"


def event(body: Mapping[str, Any]) -> str:
    """Frame one server-sent event. A frame without `data:` would break openai-python."""
    return f"data: {dumps(body)}\n\n"


def error_body(error: NautilusError, kind: str, message: str) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {
        "error": {"message": message, "type": kind, "param": getattr(error, "param", None), "code": error.code},
    }


def dumps(body: Mapping[str, Any]) -> str:
    """Serialise compactly, keeping every script readable."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _warnings(transcript: Transcript, form: TranscriptionForm) -> dict[str, Any]:
    warnings = [*form.warnings, *transcript.warnings]
    return {"warnings": warnings} if warnings else {}
