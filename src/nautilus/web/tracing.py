"""A span for every request and every WebSocket, in the trace that its client names, if it does. Pure ASGI.

Answers name their span in `traceresponse`, as the W3C drafts it (w3c.github.io/trace-context, Trace Context Level 3).
Attributes are those of OpenTelemetry's semantic conventions for HTTP servers.
"""

from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nautilus.assembly import Core
from nautilus.traces.trace import Attributes, Trace
from nautilus.web.access import STARTS
from nautilus.web.metrics import METHODS
from nautilus.web.middleware import QUIET

SWITCHED: Final = 101
FAULT_OF_OURS: Final = 500


class Tracing:
    """Lets each request be a span, but for those that are asked all the time."""

    def __init__(self, app: ASGIApp, core: Callable[[], Core | None]) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        core = self._core()
        if core is None or scope["type"] not in ("http", "websocket") or scope["path"].startswith(QUIET):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        method = _method(scope)
        with core.traces.follow(carrier, method, _asked(scope, headers), kind="server") as trace:
            answer = _Answer(send, trace)
            try:
                await self._app(scope, receive, answer.send)
            finally:
                answer.tell(method, scope)


class _Answer:
    """Names the span in the head of an answer, and remembers the answer's status."""

    def __init__(self, send: Send, trace: Trace) -> None:
        self._send = send
        self._trace = trace
        self._status = 0

    async def send(self, message: Message) -> None:
        """Send a message; see ASGI."""
        if message["type"] in STARTS:
            self._status = message.get("status", SWITCHED)
            if named := self._trace.carrier().get("traceparent"):
                MutableHeaders(scope=message)["traceresponse"] = named
        await self._send(message)

    def tell(self, method: str, scope: Scope) -> None:
        """Say how the request was answered. One whose client went before has no status."""
        if not self._trace.recorded:
            return
        state = scope.get("state", {})
        told: dict[str, str | int] = {"nautilus.request_id": state.get("request_id", "")}
        if route := getattr(scope.get("route"), "path", ""):
            self._trace.rename(f"{method} {route}")
            told["http.route"] = route
        if caller := state.get("caller"):
            told["nautilus.tenant"] = caller.tenant
        if self._status:
            told["http.response.status_code"] = self._status
        self._trace.note({name: value for name, value in told.items() if value})
        if self._status >= FAULT_OF_OURS:
            self._trace.fail(str(self._status))


def _method(scope: Scope) -> str:
    method: str = scope.get("method", "GET")  # as WebSockets are opened
    return method if method in METHODS else "HTTP"


def _asked(scope: Scope, headers: Headers) -> Attributes:
    """Return what is known of a request before it is answered; not its query, which may carry anything."""
    told = {"http.request.method": _method(scope), "url.path": scope["path"], "url.scheme": scope["scheme"]}
    return told | ({"user_agent.original": headers["user-agent"]} if "user-agent" in headers else {})
