"""Lets live conversations end well when the server is told to stop: no new ones, and the open ones have their say."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from nautilus.errors import OverloadedError

RETRY_AFTER = 5.0
"""Seconds after which another server is likely to have taken over."""


class Drain:
    """Counts conversations, and tells them when to end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """Set when the server has been told to stop."""
        self._open = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """Count one for the length of the block. Raises OverloadedError once the server is stopping."""
        if self.begun.is_set():
            raise OverloadedError(RETRY_AFTER)
        self._open += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._empty.set()

    async def finish(self) -> None:
        """Ask all conversations to end, and wait until they have."""
        self.begun.set()
        await self._empty.wait()
