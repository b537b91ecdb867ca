"""What happens around every request: an id, a bounded body, its time, one log line. Pure ASGI."""

import asyncio
import random
import re
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus.access.keys import Caller
from nautilus.errors import BodyTooSlowError, UploadTooLargeError
from nautilus.settings import HttpLimits
from nautilus.traces.trace import here, id_of
from nautilus.web import errors
from nautilus.web.access import WITH_AUDIO, route_path
from nautilus.web.metrics import NO_ROUTE, HttpMeters

log = structlog.get_logger("nautilus.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'; base-uri 'none'; object-src 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""What every answer carries, unless it says otherwise itself."""
EXPOSED: Final = (
    "x-request-id",
    "traceresponse",
    "openai-processing-ms",
    "x-nautilus-warning",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
"""Headers of answers that pages of other origins may read."""
MOST_WORDS: Final = 1024**2
"""Bytes of a body that brings no recordings."""
MOST_DIGITS: Final = 18
QUIET = ("/health", "/v1/health", "/metrics")
"""Paths that are asked too often to log."""


class RequestContext:
    """Gives each request an id, measures it, and answers what nobody caught."""

    def __init__(self, app: ASGIApp, meters: HttpMeters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{random.getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - started)))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_marked)
            except Exception as error:  # noqa: BLE001 - the outermost request handler: the client gets an answer
                answer = errors.unexpected(error)
                if not status:
                    await answer(scope, receive, send_marked)
            finally:
                seconds = time.perf_counter() - started
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                self._meters.add(scope["method"], route, status, seconds, id_of(here()))
                if not scope["path"].startswith(QUIET):
                    facts = {"method": scope["method"], "path": scope["path"], "status": status}
                    log.info("request", **facts, seconds=round(seconds, 4))


class SecurityHeaders:
    """Tells browsers to take answers for what they are, in no frame of others, and to tell nobody where they were."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in SECURITY_HEADERS if one[0] not in told)]
            await send(message)

        await self._app(scope, receive, send_safe if scope["type"] == "http" else send)


class BodyLimit:
    """Refuses bodies that are too large, by their declared length or as they come, and those that come too slowly."""

    def __init__(self, app: ASGIApp, max_bytes: int, limits: HttpLimits) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        most = self._most(scope)
        if declared.isascii() and declared.isdigit() and int(declared[:MOST_DIGITS]) > most:
            await errors.response(UploadTooLargeError(most))(scope, receive, send)
            return
        body = _Body(receive, most, self._limits)
        await self._app(scope, body.receive, send)

    def _most(self, scope: Scope) -> int:
        if not brings_recordings(scope):
            return min(self._max_bytes, MOST_WORDS)
        own: Caller | None = scope.get("state", {}).get("caller")
        return min(self._max_bytes, own.limits.upload_bytes or self._max_bytes) if own else self._max_bytes


class _Body:
    """A body as it comes."""

    def __init__(self, receive: Receive, most: int, limits: HttpLimits) -> None:
        self._receive = receive
        self._most = most
        self._limits = limits
        self._read = 0
        self._waited = 0.0
        self._whole = False

    async def receive(self) -> Message:
        """Wait for the next piece, or for the client's end once the body is whole. Raises what is wrong with it."""
        if self._whole:
            return await self._receive()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(patience(self._read, self._waited, self._limits)):
                message = await self._receive()
        except TimeoutError:
            waited = self._waited + time.perf_counter() - started
            raise BodyTooSlowError(self._read, waited) from None
        self._waited += time.perf_counter() - started
        self._whole = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise UploadTooLargeError(self._most)
        return message


def patience(read: int, waited: float, limits: HttpLimits) -> float:
    """Return for how many seconds the next piece of a body is waited for, which has brought so much in such a time.

    The server's own slowness is no part of it: who waits for the store is not waited for.
    """
    if not limits.body_rate:
        return limits.body_idle
    earned = limits.body_idle + read / limits.body_rate
    return max(0.0, min(limits.body_idle, earned - waited))


def brings_recordings(scope: Scope) -> bool:
    """Return whether a request's body may be as long as recordings are."""
    path = route_path(scope)
    return path in WITH_AUDIO or (scope["method"] == "PUT" and path.startswith("/v1/uploads/"))
