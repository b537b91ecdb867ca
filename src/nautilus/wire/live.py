"""Our own live protocol: query → what is asked, events → JSON, a client's text messages → what they want.

Binary messages are sound. Every event has a number of its own (`seq`); times are seconds of the stream.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from nautilus.audio.pcm import ENCODINGS, RATES, Encoding
from nautilus.errors import BadRequestError
from nautilus.types import SAMPLE_RATE, Word
from nautilus.wire.languages import language_code

DELAYS: Final = ("minimal", "low", "medium", "high", "xhigh")
"""OpenAI's words for how long a model may wait for what comes next."""
USUAL_DELAY: Final = "high"

Wish = Literal["commit", "end"]
WISHES: Final[tuple[Wish, ...]] = ("commit", "end")


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """What a client asks for when it connects."""

    model: str | None = None
    encoding: Encoding = "pcm16"
    rate: int = SAMPLE_RATE
    """Hertz."""
    delay: str = USUAL_DELAY
    language: str | None = None
    """ISO-639-1 code; None lets the model decide."""
    final_model: str | None = None
    """What hears each utterance once more; None: as the server is set."""


def read_query(query: Mapping[str, str]) -> StreamQuery:
    """Read the address's query. Raises BadRequestError that names the parameter and the fix."""
    if unknown := sorted(query.keys() - {"model", "encoding", "rate", "delay", "language", "final_model"}):
        raise BadRequestError(f"Unknown parameters: {', '.join(unknown)[:200]}.", unknown[0])
    delay = query.get("delay", USUAL_DELAY)
    if delay not in DELAYS:
        raise BadRequestError(f"delay must be one of {', '.join(DELAYS)}, not '{delay[:50]}'.", "delay")
    encoding, rate = _encoding(query.get("encoding", "pcm16")), _rate(query)
    return StreamQuery(
        query.get("model") or None, encoding, rate, delay, _language(query), query.get("final_model") or None
    )


def look_ahead_for(delay: str, known: Sequence[float]) -> float:
    """Return which of a model's look-aheads a delay means: the extremes its smallest and largest, evenly between."""
    ascending = sorted(known)
    return ascending[round(DELAYS.index(delay) * (len(ascending) - 1) / (len(DELAYS) - 1))]


def read_message(text: str) -> Wish:
    """Read a client's text message. Raises BadRequestError."""
    try:
        wish = json.loads(text)["type"]
    except (ValueError, TypeError, KeyError):
        wish = None
    for known in WISHES:
        if wish == known:
            return known
    raise BadRequestError('Text messages are {"type": "commit"} or {"type": "end"}; send sound as binary ones.', "type")


def told(kind: str, utterance: int, words: Sequence[Word], until: float) -> dict[str, Any]:
    """Return a partial or final event."""
    return {
        "type": kind,
        "utterance": utterance,
        "text": " ".join(word.text for word in words),
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": round(word.confidence, 3),
            }
            for word in words
        ],
        "until": round(until, 3),
    }


def _encoding(given: str) -> Encoding:
    for known in ENCODINGS:
        if given == known:
            return known
    raise BadRequestError(f"encoding must be one of {', '.join(ENCODINGS)}, not '{given[:50]}'.", "encoding")


def _language(query: Mapping[str, str]) -> str | None:
    given = query.get("language")
    if given and language_code(given) is None:
        raise BadRequestError(f"language must be an ISO-639-1 code such as 'en', not '{given[:50]}'.", "language")
    return language_code(given) if given else None


def _rate(query: Mapping[str, str]) -> int:
    given = query.get("rate", str(SAMPLE_RATE))
    if not given.isascii() or not given.isdigit() or int(given[:9]) not in RATES:
        raise BadRequestError(f"rate must be from {RATES[0]} to {RATES[-1]} Hz, not '{given[:50]}'.", "rate")
    return int(given)
