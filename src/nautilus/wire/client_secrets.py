"""Client secrets for `/v1/realtime`, as OpenAI's two APIs ask for and answer them.

Source: openai-python, `types/realtime/client_secret_create_*` and, older, `types/beta/realtime/transcription_session*`.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from nautilus.errors import BadRequestError, UnsupportedError
from nautilus.wire.openai_realtime import Body, RealtimeSession, update
from nautilus.wire.untrusted import read_json

SECONDS: Final = range(10, 7201)
USUAL_SECONDS: Final = 600
MOST_SETTINGS: Final = 2048
"""Bytes of session settings: a secret travels in a header."""
SCHEMES: Final = ("bearer", "token")
"""Of the header; Deepgram's clients say `Token`."""
SUBPROTOCOLS: Final = ("openai-insecure-api-key.", "realtime-token.")
"""What browsers put before a secret, as they can't send headers: OpenAI's clients and NVIDIA's."""


@dataclass(frozen=True, slots=True)
class SecretRequest:
    """What a client's server asks a secret for."""

    settings: Body
    """As given: the session's."""
    session: RealtimeSession
    """What comes of them."""
    seconds: int = USUAL_SECONDS


def read_request(body: bytes) -> SecretRequest:
    """Read a request for a secret. Raises BadRequestError that names the field."""
    given = _object(body)
    settings = given.get("session") or {}
    if not isinstance(settings, dict):
        raise BadRequestError("session must be an object.", "session")
    if settings.get("type", "transcription") != "transcription":
        raise UnsupportedError("This server transcribes; session.type must be transcription.", "session.type")
    expiry = given.get("expires_after") or {}
    seconds = expiry.get("seconds", USUAL_SECONDS) if isinstance(expiry, dict) else None
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds not in SECONDS:
        allowed = f"from {SECONDS[0]} to {SECONDS[-1]}"
        raise BadRequestError(f"expires_after.seconds must be a whole number {allowed}.", "expires_after.seconds")
    return _request(settings, seconds)


def read_older_request(body: bytes) -> SecretRequest:
    """Read a request of the older API, whose body is the session itself. Raises BadRequestError."""
    return _request(_object(body), USUAL_SECONDS)


def answer(request: SecretRequest, model: str, value: str, expires_at: int) -> Body:
    """Return the secret with the session that it opens."""
    return {"value": value, "expires_at": expires_at, "session": request.session.body(model)}


def older_answer(request: SecretRequest, model: str, value: str, expires_at: int) -> Body:
    """Return the flat session with its secret."""
    return request.session.flat(model) | {"client_secret": {"value": value, "expires_at": expires_at}}


def secret_of(authorization: str, subprotocols: list[str]) -> str | None:
    """Return the key that a client sent, in a header or as a subprotocol."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() in SCHEMES and token.strip():
        return token.strip()
    for offered in subprotocols:
        for prefix in SUBPROTOCOLS:
            if offered.startswith(prefix):
                return offered.removeprefix(prefix)
    return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = read_json(body or b"{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise BadRequestError("The body must be a JSON object.")
    return given


def _request(settings: Body, seconds: int) -> SecretRequest:
    if len(json.dumps(settings)) > MOST_SETTINGS:
        raise BadRequestError(f"The session's settings must take at most {MOST_SETTINGS} bytes.", "session")
    return SecretRequest(settings, update(RealtimeSession(), {"session": settings}), seconds)
