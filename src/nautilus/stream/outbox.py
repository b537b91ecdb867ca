"""What a client is to be told, in order: some of it is still on its way when what comes after it is known."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

from nautilus.stream.session import Event

Emit: TypeAlias = Callable[[Event], Awaitable[None]]

MOST: Final = 16
"""Entries that may wait; then the conversation waits for the client to read."""


class Outbox:
    """Tells events one after the other. Lives as long as the group of tasks that it is given."""

    def __init__(self, emit: Emit, tasks: asyncio.TaskGroup) -> None:
        self._emit = emit
        self._tasks = tasks
        self._queue: asyncio.Queue[list[Event] | asyncio.Task[list[Event]] | None] = asyncio.Queue(MOST)
        tasks.create_task(self._tell(), name="tell the client")

    async def put(self, events: list[Event]) -> None:
        """Tell these after all that was put before."""
        if events:
            await self._queue.put(events)

    async def put_later(self, events: Coroutine[Any, Any, list[Event]]) -> None:
        """Tell in their place what is only known later; what is put meanwhile waits."""
        await self._queue.put(self._tasks.create_task(events, name="hear again"))

    async def end(self) -> None:
        """Take note that nothing more comes."""
        await self._queue.put(None)

    async def _tell(self) -> None:
        while (entry := await self._queue.get()) is not None:
            for event in await entry if isinstance(entry, asyncio.Task) else entry:
                await self._emit(event)
