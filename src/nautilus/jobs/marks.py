"""What is written down while a group of files is worked on: checkpoints of long recordings, and files that ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from nautilus.hearing import Piece
from nautilus.jobs.job import FileState, Job
from nautilus.jobs.results import dump_standing, dump_words
from nautilus.jobs.runs import FileEnd, Runs
from nautilus.storage.blobs import Blobs
from nautilus.types import Word

FLUSH: Final = 0.5
"""Seconds for which ended files wait to be written together."""
FIRST_CHECKPOINT: Final = 1.0
"""Seconds after which a recording's first checkpoint is written at the latest; short ones never need one."""


class Marks:
    """The checkpoints of one long recording."""

    def __init__(self, runs: Runs, blobs: Blobs, run: Job, file: FileState, every: float) -> None:
        self._runs = runs
        self._blobs = blobs
        self._run = run
        self._number = file.number
        self._parts: list[int] = list((file.checkpoint or {}).get("parts", ()))
        self._words: list[Word] = []
        self._clock = asyncio.get_running_loop().time
        self._every = every
        self._due = self._clock() + min(FIRST_CHECKPOINT, every)

    async def note(self, piece: Piece) -> None:
        """Take what a window added; write it with what came before when it is time."""
        self._words += piece.words
        if self._clock() < self._due:
            return
        part = piece.standing.windows
        await self._blobs.put_bytes(part_key(self._run, self._number, part), dump_words(self._words))
        parts = [*self._parts, part]
        stored = {"standing": dump_standing(piece.standing), "parts": parts}
        await self._runs.checkpoint(self._run, self._number, piece.seconds_done, piece.seconds_total, stored)
        self._parts, self._words = parts, []
        self._due = self._clock() + self._every


class Ends:
    """Ended files, written many at a time: first their transcripts, then the rows that name them."""

    def __init__(
        self, runs: Runs, blobs: Blobs, run: Job, then: Callable[[Job, Sequence[FileEnd]], Awaitable[None]]
    ) -> None:
        self._runs = runs
        self._blobs = blobs
        self._run = run
        self._then = then
        self._ended: list[FileEnd] = []
        self._closed = asyncio.Event()

    def add(self, end: FileEnd) -> None:
        """Take one more."""
        self._ended.append(end)

    def close(self) -> None:
        """Say that there are no more."""
        self._closed.set()

    async def write(self) -> None:
        """Write what there is, again and again, until closed and empty."""
        while not self._closed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._closed.wait()
            ends, self._ended = self._ended, []
            if ends:
                await self._blobs.put_many({end.result: end.transcript for end in ends if end.result})
                await self._runs.ended(self._run, ends)
                await self._then(self._run, ends)


def part_key(job: Job, number: int, part: int) -> str:
    """Return where words of a recording lie that has not ended: those up to a checkpoint, since the one before."""
    return f"{job.tenant}/parts/{job.id}/{number}/{part:08d}"
