"""uvicorn's protocols with the deadlines and bounds that it leaves to a proxy, as strangers may reach us directly.

- The head of a request comes within some seconds and has a largest size.
- A body that nobody waits for any more (its request was answered) may go on for a moment only.
- Who reads nothing for some seconds while there is something to read is cut off, whatever the answer or stream is.
- Messages have a largest number of fragments, and pings are answered only to who reads the answers.
"""

import asyncio
from typing import Any, Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from nautilus.errors import BadRequestError, HeadTooLargeError, NautilusError
from nautilus.settings import HttpLimits
from nautilus.web import errors

LINGER: Final = 10.0
"""Seconds in which a client may take note that its request was answered before it was sent."""
MOST_UNREAD: Final = 256 * 1024
"""Bytes of a body beyond which no more is read until the app has taken them: short recordings come in one piece."""
MOST_FRAGMENTS: Final = 1024
"""Of one message."""
TOO_BIG: Final = 1009
NOT_TEXT: Final = 1007


class ServerConfig(uvicorn.Config):
    """uvicorn's configuration, with bounds on connections."""

    def __init__(self, app: ASGIApp, limits: HttpLimits, **others: Any) -> None:
        super().__init__(
            app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=limits.message_bytes,
            ws_per_message_deflate=False,  # sound does not shrink, and unfolding costs
            log_config=None,
            access_log=False,
            server_header=False,
            reset_contextvars=True,  # else a connection's next request is logged as the tenant's of the one before
            **others,
        )
        self.limits = limits


class Deadline:
    """Cuts one connection, unless it is called off."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, cut: Any) -> None:
        """Call `cut` in so many seconds; one that runs already goes on."""
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, cut)

    def end(self) -> None:
        """Call it off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HttpProtocol(HttpToolsProtocol):
    """One connection that speaks HTTP."""

    def __init__(self, config: ServerConfig, **others: Any) -> None:
        super().__init__(config, **others)
        self._limits = config.limits
        self._head, self._unread, self._rest = (Deadline(self.loop) for _ in range(3))
        self._head_bytes = 0
        self._in_head = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request; see asyncio."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._head.begin(self._limits.head_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Call everything off; see asyncio."""
        for deadline in (self._head, self._unread, self._rest):
            deadline.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; see asyncio."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes and not self.transport.is_closing():
                self._refuse(HeadTooLargeError(self._limits.head_bytes))

    def on_message_begin(self) -> None:
        """Wait for the rest of a head; see httptools."""
        super().on_message_begin()
        self._rest.end()
        self._in_head, self._head_bytes = True, 0
        self._head.begin(self._limits.head_seconds, self._head_is_late)

    def on_headers_complete(self) -> None:
        """Begin a request; see httptools."""
        self._in_head = False
        self._head.end()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; see httptools. Reading waits for the app a little later than uvicorn's.

        Where the app waits, a piece is passed on as it is; others are put together.
        """
        if self.cycle.response_complete or (self.parser.should_upgrade() and self._should_upgrade()):
            return
        before = self.cycle.body
        self.cycle.body = _joined(before, body) if before else body  # type: ignore[assignment]  # read as bytes
        if len(self.cycle.body) > MOST_UNREAD:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Wait no longer for the rest of a body; see httptools."""
        super().on_message_complete()
        self._rest.end()

    def on_response_complete(self) -> None:
        """Let go of a connection whose client still sends, or does not read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._unread.begin(self._limits.unread, self.transport.abort)
        elif self.cycle.response_complete and self.cycle.more_body:
            self._rest.begin(LINGER, self.transport.close)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; see uvicorn."""
        super().timeout_keep_alive_handler()
        self._unread.begin(self._limits.unread, self.transport.abort)

    def pause_writing(self) -> None:
        """Wait for a client that does not read; see asyncio."""
        super().pause_writing()
        self._unread.begin(self._limits.unread, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on; see asyncio."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread.end()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the shape of all refusals; see uvicorn."""
        self._refuse(BadRequestError(msg))

    def _head_is_late(self) -> None:
        self._head.end()
        if self.cycle is not None and not self.cycle.response_complete:  # what comes behind it may wait
            self._head.begin(self._limits.head_seconds, self._head_is_late)
        else:
            self.transport.close()

    def _refuse(self, error: NautilusError) -> None:
        answer = errors.response(error)
        head = [STATUS_LINE[answer.status_code], b"connection: close\r\n"]
        head += [b"%b: %b\r\n" % header for header in answer.raw_headers]
        self.transport.write(b"".join([*head, b"\r\n", bytes(answer.body)]))
        self.transport.close()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One connection that speaks WebSocket."""

    def __init__(self, config: ServerConfig, **others: Any) -> None:
        super().__init__(config, **others)
        self._patience = config.limits.unread
        self._unread = Deadline(self.loop)
        self._broken = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Call everything off; see asyncio."""
        self._unread.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that does not read; see asyncio."""
        super().pause_writing()
        self._unread.begin(self._patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on; see asyncio."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread.end()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Let go of a connection that has had its last word; see uvicorn."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._unread.begin(self._patience, self.transport.abort)

    def handle_ping(self) -> None:
        """Answer, but not to who does not read: answers would heap up; see uvicorn."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment; see uvicorn."""
        if len(self.frames) < MOST_FRAGMENTS:
            super().handle_cont(event)
        else:
            self._fail(TOO_BIG, "too many fragments")

    def send_receive_event_to_app(self) -> None:
        """Hand a message over; see uvicorn, which logs an error for text that is none."""
        if self.curr_msg_data_type == "text" and not _is_text(self.frames):
            self._fail(NOT_TEXT, "not UTF-8")
        else:
            super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Send, but not to who broke the protocol; a refusal is no handshake that was forgotten; see uvicorn."""
        if self._broken:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def handle_parser_exception(self) -> None:
        """End a connection that has broken the protocol; see uvicorn."""
        self._broken = True
        super().handle_parser_exception()

    def _fail(self, code: int, reason: str) -> None:
        self.frames = []
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()


def _is_text(frames: list[bytes]) -> bool:
    try:
        b"".join(frames).decode()
    except UnicodeDecodeError:
        return False
    return True


def _joined(before: bytes | bytearray, piece: bytes) -> bytearray:
    """Return both, in `before` itself if that can grow."""
    together = before if isinstance(before, bytearray) else bytearray(before)
    together += piece
    return together
