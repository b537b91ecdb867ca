"""Uploads: what they count, and how one to an S3 store leaves nothing when it is cancelled."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from typing import Final

import obstore
from obstore.store import S3Store

from nautilus.errors import first_error

TAKE_BACK_SECONDS: Final = 5.0
"""How long an upload that was cancelled may take to delete its parts."""


class Upload:
    """Chunks on their way, counted, until they are given up."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.count = 0
        """Bytes so far."""
        self.given_up = False

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield them, for whoever stores them."""
        async for chunk in self._chunks:
            if self.given_up:
                raise _GivenUpError
            self.count += len(chunk)
            yield chunk


class _GivenUpError(Exception):
    """Nobody wants the upload any more."""


async def put_or_take_back(store: S3Store, key: str, upload: Upload) -> None:
    """Put a blob in parts. Cancelled, it ends by a failure of `chunks`, upon which the parts are deleted.

    (The library forgets the parts of an upload that is cancelled itself.)
    """

    async def put() -> None:
        with suppress(_GivenUpError):
            await obstore.put_async(store, key, upload.chunks())

    with first_error():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(put())
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                upload.given_up = True
                await asyncio.wait({task}, timeout=TAKE_BACK_SECONDS)
                raise
