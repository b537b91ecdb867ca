"""Who asks: found before a request is read or a WebSocket opened, with what it may ask for and how much. Pure ASGI."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from nautilus.access.keys import Caller, with_own
from nautilus.access.keys import Scope as KeyScope
from nautilus.access.limits import Window, check, is_limited
from nautilus.access.secrets import PREFIX
from nautilus.access.settings import Limits
from nautilus.assembly import Core
from nautilus.errors import ForbiddenError, NautilusError, NotReadyError, UnauthorizedError
from nautilus.settings import Settings
from nautilus.web import errors
from nautilus.wire.client_secrets import secret_of

Need: TypeAlias = KeyScope | Literal["any", "public"]
"""What a path asks of a key: a scope, that it is valid, or nothing."""

NEEDS: Final[dict[str, Need]] = {
    "/": "public",
    "/docs": "public",
    "/health": "public",
    "/metrics": "public",  # or admin, by setting
    "/openapi.json": "public",
    "/static": "public",
    "/static-offline-docs": "public",
    "/transcribe": "transcribe",
    "/v1/admin": "admin",
    "/v1/audio": "transcribe",
    "/v1/audio/transcriptions/jobs": "jobs",
    "/v1/health": "public",
    "/v1/models": "any",
    "/v1/realtime": "stream",
    "/v1/stream": "stream",
    "/v1/uploads": "jobs",
    "/v1/usage": "any",
    "/v1/webhooks": "jobs",
}
"""By the beginnings of paths, of which the longest counts; every route has one. What has none asks for a valid key."""

WITH_AUDIO: Final = frozenset(
    {
        "/transcribe",
        "/v1/audio/transcriptions",
        "/v1/audio/transcriptions/jobs",
        "/v1/audio/translations",
        "/v1/realtime",
        "/v1/stream",
    }
)
"""Paths that bring audio, and are closed to who has none left."""
HARMLESS: Final = ("GET", "HEAD", "OPTIONS")
"""Methods of which any number may run at once: those who wait for events are many."""
STARTS: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")


class Access:
    """Lets in who may, says who it is in `scope["state"]`, and tells what is left of limits in every answer."""

    def __init__(self, app: ASGIApp, settings: Settings, core: Callable[[], Core | None], *, required: bool) -> None:
        self._app = app
        self._core = core
        self._required = required
        self._limited = with_own(settings.limits, {}) != Limits()
        self._needs = NEEDS | ({"/metrics": "admin"} if settings.access.metrics == "admin" else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        need = needed(route_path(scope), self._needs)
        if need == "public" or not (self._required or self._limited or need == "admin"):
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        async with AsyncExitStack() as places:
            try:
                await self._admit(scope, need, answer, places)
            except NautilusError as error:
                await refuse(error, scope, receive, answer.send)
                return
            await self._app(scope, receive, answer.send)

    async def _admit(self, scope: Scope, need: Need, answer: "_Answer", places: AsyncExitStack) -> None:
        """Find out who asks, count the request, and take its place. Raises what is wrong with it."""
        core = self._core()
        if core is None:
            raise NotReadyError
        with_key = self._required or need == "admin"
        caller = await _caller(core, scope, need) if with_key else core.keyring.anybody
        scope.setdefault("state", {}).update(caller=caller)
        structlog.contextvars.bind_contextvars(tenant=caller.tenant, key=caller.key)
        if not is_limited(caller.limits):
            return
        brings = scope["type"] == "websocket" or scope["method"] not in HARMLESS
        answer.windows = await core.limiter.count(caller, with_audio=brings and route_path(scope) in WITH_AUDIO)
        check(answer.windows)
        if brings and scope["type"] == "http":
            await places.enter_async_context(core.limiter.place("requests", caller))


class _Answer:
    """Tells in the head of an answer what is left."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.windows: tuple[Window, ...] = ()

    async def send(self, message: Message) -> None:
        """Send a message; see ASGI."""
        if self.windows and message["type"] in STARTS:
            MutableHeaders(scope=message).update(told(self.windows))
        await self._send(message)


def route_path(scope: Scope) -> str:
    """Return the path that routes see, as Starlette finds it: without the prefix under which a proxy serves all."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path


def needed(path: str, needs: dict[str, Need] = NEEDS) -> Need:
    """Return what a path asks of a key."""
    if path == "/":  # the page, and the beginning of nothing else
        return needs["/"]
    while path.strip("/"):
        if path in needs:
            return needs[path]
        path = path.rpartition("/")[0]
    return "any"


def told(windows: tuple[Window, ...]) -> dict[str, str]:
    """Return the headers that tell what is left.

    Sources: OpenAI's API, whose clients read `x-ratelimit-*`; draft-ietf-httpapi-ratelimit-headers.
    """
    headers = {
        "RateLimit-Policy": ", ".join(f'"{one.name}";q={one.limit};w={one.seconds}' for one in windows),
        "RateLimit": ", ".join(f'"{one.name}";r={one.left};t={one.reset}' for one in windows),
    }
    for one in windows:
        if one.name == "requests":
            headers["x-ratelimit-limit-requests"] = str(one.limit)
            headers["x-ratelimit-remaining-requests"] = str(one.left)
            headers["x-ratelimit-reset-requests"] = f"{one.reset}s"
    return headers


async def _caller(core: Core, scope: Scope, need: Need) -> Caller:
    value = secret_of(Headers(scope=scope).get("authorization", ""), scope.get("subprotocols", []))
    if value is None:
        raise UnauthorizedError
    if value.startswith(PREFIX):
        caller = await _of_secret(core, value)
        if scope["type"] != "websocket":
            raise ForbiddenError("A client secret only opens live streams; use an API key for this.")
    else:
        caller = await core.keyring.find(value)
    if need != "any" and need not in caller.scopes:
        raise ForbiddenError(f"This key lacks the scope '{need}'; ask its operator for one that has it.")
    return caller


async def _of_secret(core: Core, value: str) -> Caller:
    """Return whom a client's secret speaks for: the key that made it, while that is valid."""
    granted = core.client_secrets.read(value)
    if granted.key is None:  # made by a server that asks for no keys
        raise UnauthorizedError
    caller = await core.keyring.find_id(granted.key)
    return replace(caller, scopes=caller.scopes & {"stream"})


async def refuse(error: NautilusError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or an upgrade to a WebSocket, with what is wrong with it."""
    answer = errors.response(error)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(answer)
    else:
        await answer(scope, receive, send)
