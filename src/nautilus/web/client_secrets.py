"""`POST /v1/realtime/client_secrets`: short-lived secrets with which browsers open live streams."""

from typing import Any, Final

from fastapi import APIRouter, Request, WebSocket

from nautilus.access.secrets import PREFIX
from nautilus.web.deps import CallerDep, CoreDep
from nautilus.web.examples import ERRORS, answer
from nautilus.web.schemas import ANYTHING, ref
from nautilus.wire import client_secrets as wire

router = APIRouter(tags=["live"])

_SESSION: Final = {"type": "transcription", "audio": {"input": {"transcription": {"delay": "high"}}}}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"expires_after": {"anchor": "created_at", "seconds": 600}, "session": _SESSION},
            }
        }
    }
}
_OLDER_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {"application/json": {"schema": {"type": "object"}, "example": {"input_audio_format": "pcm16"}}}
    }
}

_SECRET: Final = {"value": "ek_…", "expires_at": 1795456800}
_MADE: Final[dict[int | str, dict[str, Any]]] = {
    200: answer("The secret, and the session that it opens.", ref("Secret"), _SECRET | {"session": _SESSION}),
    404: ERRORS[404],
}
_OLDER_MADE: Final[dict[int | str, dict[str, Any]]] = {
    200: answer("The session, with its secret.", ANYTHING, {"client_secret": _SECRET}),
    404: ERRORS[404],
}


@router.post("/v1/realtime/client_secrets", openapi_extra=_BODY, responses=_MADE)
async def mint(request: Request, core: CoreDep, caller: CallerDep) -> dict[str, Any]:
    """Make a secret for `/v1/realtime`, with the settings of the sessions that it opens, as OpenAI's API does."""
    asked = wire.read_request(await request.body())
    model = core.resolve(asked.session.model)
    secret = core.client_secrets.mint(asked.settings, asked.seconds, caller)
    return wire.answer(asked, model, secret.value, secret.expires_at)


@router.post("/v1/realtime/transcription_sessions", openapi_extra=_OLDER_BODY, responses=_OLDER_MADE)
async def mint_older(request: Request, core: CoreDep, caller: CallerDep) -> dict[str, Any]:
    """Make a secret for `/v1/realtime`, as OpenAI's older API does; the body is the session's settings."""
    asked = wire.read_older_request(await request.body())
    model = core.resolve(asked.session.model)
    secret = core.client_secrets.mint(asked.settings, asked.seconds, caller)
    return wire.older_answer(asked, model, secret.value, secret.expires_at)


def settings_of(websocket: WebSocket, core: CoreDep) -> dict[str, Any]:
    """Return the session settings that a client's secret carries; none without one. Raises UnauthorizedError."""
    given = wire.secret_of(websocket.headers.get("authorization", ""), websocket.scope.get("subprotocols", []))
    if given is None or not given.startswith(PREFIX):
        return {}
    return core.client_secrets.read(given).content
