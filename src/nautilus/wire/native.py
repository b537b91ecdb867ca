"""Our own document: everything that is known of a transcript."""

from dataclasses import asdict
from typing import Any

from nautilus.types import Segment, Transcript, Word


def document(transcript: Transcript, warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the body of `POST /transcribe`. Times are seconds from the start of the recording."""
    return {
        "text": transcript.text,
        "language": transcript.language,
        "model": transcript.model,
        "segments": [_segment(segment) for segment in transcript.segments],
        "words": [_word(word) for word in transcript.words],
        "audio": _rounded(asdict(transcript.audio)),
        "timings": _rounded(asdict(transcript.timings), digits=4),
        "warnings": [*warnings, *transcript.warnings],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return _rounded({"start": segment.start, "end": segment.end, "text": segment.text})


def _word(word: Word) -> dict[str, Any]:
    return _rounded({"word": word.text, "start": word.start, "end": word.end, "confidence": word.confidence})


def _rounded(values: dict[str, Any], digits: int = 3) -> dict[str, Any]:
    return {key: round(value, digits) if isinstance(value, float) else value for key, value in values.items()}
