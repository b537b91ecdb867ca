"""The longest time of a live stream: its client is told before, then it ends with its last words."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from nautilus.errors import first_error
from nautilus.stream.session import StreamLimits

Warn: TypeAlias = Callable[[float], Awaitable[None]]
"""Tells a client how many seconds are left."""


@asynccontextmanager
async def longest_time(limits: StreamLimits, warn: Warn, end: Callable[[], None]) -> AsyncIterator[None]:
    """Call `warn` and later `end`, should the block last so long. Lets the block's failure out as itself."""
    with first_error():
        async with asyncio.TaskGroup() as tasks:
            timing = tasks.create_task(_wait(limits, warn, end), name="longest time of a stream")
            yield
            timing.cancel()


async def _wait(limits: StreamLimits, warn: Warn, end: Callable[[], None]) -> None:
    notice = min(limits.notice, limits.longest_stream)
    await asyncio.sleep(limits.longest_stream - notice)
    await warn(notice)
    await asyncio.sleep(notice)
    end()
