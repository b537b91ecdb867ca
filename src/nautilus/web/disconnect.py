"""The caller gone means the work gone."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nautilus.errors import first_error

Result = TypeVar("Result")


class ClientGoneError(Exception):
    """Nobody is left to answer."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work`; cancel it and raise ClientGoneError as soon as the client hangs up. The body has been read."""
    with first_error():
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_raise_when_gone(receive))
            result = await work
            watching.cancel()
    return result


async def _raise_when_gone(receive: Receive) -> NoReturn:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientGoneError


Produce = Callable[[Callable[[str], Awaitable[None]]], Coroutine[Any, Any, None]]
"""Sends a stream's events, one call each, until it returns."""


class EventStream(Response):
    """Server-sent events pushed by `produce`; a comment keeps the connection alive while nothing is said."""

    media_type = "text/event-stream"
    KEEP_ALIVE = 15.0

    def __init__(self, produce: Produce, headers: dict[str, str] | None = None) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"} | (headers or {}))
        del self.headers["content-length"]
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then whatever is produced; see ASGI."""
        del scope
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def emit(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        async def stay_alive() -> None:
            while True:
                await asyncio.sleep(self.KEEP_ALIVE)
                await emit(": keep-alive\n\n")

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                alive = tasks.create_task(stay_alive())
                await self._produce(emit)
                alive.cancel()

        try:
            await while_connected(receive, work())
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGoneError:
            return


async def answered(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Run the work behind one request for as long as its client waits."""
    return await while_connected(request.receive, work)
