"""Our own live protocol: query → what is asked, events → JSON, a client's text messages → what they want.

Binary messages are sound. Every event has a number of its own (`seq`); times are seconds of the stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from nautilus.audio.live_decode import CONTAINERS, Container
from nautilus.audio.pcm import ENCODINGS, RATES, Encoding
from nautilus.errors import BadRequestError
from nautilus.types import SAMPLE_RATE, Word
from nautilus.wire.languages import language_code
from nautilus.wire.untrusted import read_json

DELAYS: Final = ("minimal", "low", "medium", "high", "xhigh")
"""OpenAI's words for how long a model may wait for what comes next."""
USUAL_DELAY: Final = "high"

PARAMETERS: Final = {"model", "encoding", "rate", "delay", "language", "final_model", "session", "after"}
MOST_DIGITS: Final = 15

Body: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["ready", "speech_started", "partial", "final", "committed", "warning", "end", "error"]
"""Every event that there is."""

Wish = Literal["commit", "end"]
WISHES: Final[tuple[Wish, ...]] = ("commit", "end")


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Samples that say nothing of themselves."""

    encoding: Encoding = "pcm16"
    rate: int = SAMPLE_RATE
    """Hertz."""


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """What a client asks for when it connects."""

    model: str | None = None
    sound: RawFormat | Container = RawFormat()
    delay: str = USUAL_DELAY
    session: str | None = None
    """The stream to go on with; the others then say nothing."""
    after: int = 0
    """The last event of it that came."""
    language: str | None = None
    """ISO-639-1 code; None lets the model decide."""
    final_model: str | None = None
    """What hears each utterance once more; None: as the server is set."""


def read_query(query: Mapping[str, str]) -> StreamQuery:
    """Read the address's query. Raises BadRequestError that names the parameter and the fix."""
    if unknown := sorted(query.keys() - PARAMETERS):
        raise BadRequestError(f"Unknown parameters: {', '.join(unknown)[:200]}.", unknown[0])
    delay = query.get("delay", USUAL_DELAY)
    if delay not in DELAYS:
        raise BadRequestError(f"delay must be one of {', '.join(DELAYS)}, not '{delay[:50]}'.", "delay")
    session = query.get("session") or None
    if "after" in query and not session:
        raise BadRequestError("after needs the session of which it is an event.", "after")
    return StreamQuery(
        model=query.get("model") or None,
        sound=_sound(query),
        delay=delay,
        language=_language(query),
        final_model=query.get("final_model") or None,
        session=session,
        after=_number(query.get("after", "0")),
    )


def look_ahead_for(delay: str, known: Sequence[float]) -> float:
    """Return which of a model's look-aheads a delay means: the extremes its smallest and largest, evenly between."""
    ascending = sorted(known)
    return ascending[round(DELAYS.index(delay) * (len(ascending) - 1) / (len(DELAYS) - 1))]


def read_message(text: str) -> Wish:
    """Read a client's text message. Raises BadRequestError."""
    try:
        wish = read_json(text)["type"]
    except (ValueError, TypeError, KeyError):
        wish = None
    for known in WISHES:
        if wish == known:
            return known
    raise BadRequestError('Text messages are {"type": "commit"} or {"type": "end"}; send sound as binary ones.', "type")


def ready(model: str, look_ahead: float, session: str) -> Body:
    """Return the event that opens a stream; `look_ahead` in seconds."""
    return _event("ready", model=model, look_ahead=look_ahead, session=session, resumed=False, commits=0)


def resumed(greeting: Body, after: int) -> Body:
    """Return what greets a client that has come back; it has the number of the last event that the client saw."""
    return greeting | {"resumed": True, "seq": after}


def speech_started(utterance: int, at: float) -> Body:
    """Return what tells of a first word, at so many seconds."""
    return _event("speech_started", utterance=utterance, at=round(at, 3))


def told(kind: Literal["partial", "final"], utterance: int, words: Sequence[Word], until: float, lag: float) -> Body:
    """Return a partial or final event; `until` and `lag` in seconds."""
    return _event(
        kind,
        utterance=utterance,
        text=" ".join(word.text for word in words),
        words=[
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": round(word.confidence, 3),
            }
            for word in words
        ],
        until=round(until, 3),
        lag=max(0, round(1000 * lag)),
    )


def committed(until: float) -> Body:
    """Return what tells that all of a commit has been told."""
    return _event("committed", until=round(until, 3))


def warning(notice: float, longest: float) -> Body:
    """Return what tells how many seconds are left of a stream's longest time."""
    message = f"This stream ends in {notice:g} s, as it will have lasted {longest:g} s; open another one."
    return _event("warning", code="stream_ending", message=message, seconds=notice)


def end(reason: str) -> Body:
    """Return the last event."""
    return _event("end", reason=reason)


def failed(error: Mapping[str, Any]) -> Body:
    """Return what tells of a failure; `error` is the body of an HTTP answer."""
    return _event("error", **error)


def _event(kind: Kind, **fields: Any) -> Body:
    return {"type": kind, **fields}


def _sound(query: Mapping[str, str]) -> RawFormat | Container:
    given = query.get("encoding", "pcm16")
    for raw in ENCODINGS:
        if given == raw:
            return RawFormat(raw, _rate(query))
    for container in CONTAINERS:
        if given == container:
            if "rate" in query:
                raise BadRequestError(f"rate is for raw samples; {container} says it itself. Leave it out.", "rate")
            return container
    known = ", ".join((*ENCODINGS, *CONTAINERS))
    raise BadRequestError(f"encoding must be one of {known}, not '{given[:50]}'.", "encoding")


def _number(given: str) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > MOST_DIGITS:
        raise BadRequestError(f"after must be the seq of an event, not '{given[:50]}'.", "after")
    return int(given)


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
