"""What happens around every request: an id, a bounded body, its time, one log line. Pure ASGI."""

import os
import re
import time
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus.access.keys import Caller
from nautilus.errors import UploadTooLargeError
from nautilus.traces.trace import here, id_of
from nautilus.web import errors
from nautilus.web.metrics import NO_ROUTE, HttpMeters

log = structlog.get_logger("nautilus.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    "cross-origin-opener-policy": "same-origin",
}
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
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{os.urandom(16).hex()}"
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
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safe if scope["type"] == "http" else send)


class BodyLimit:
    """Refuses bodies of more bytes than allowed, to all or to a key, by their declared length or as they come."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        own: Caller | None = scope.get("state", {}).get("caller")
        most = min(self._max_bytes, own.limits.upload_bytes or self._max_bytes) if own else self._max_bytes
        if declared.isdigit() and int(declared) > most:
            await errors.response(UploadTooLargeError(most))(scope, receive, send)
            return
        read = 0

        async def receive_counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise UploadTooLargeError(most)
            return message

        await self._app(scope, receive_counted, send)
