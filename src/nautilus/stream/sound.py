"""Raw samples of a client as waveforms, without holding up others."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from typing import Final

from nautilus.audio.headed_pcm import HeadedPcm
from nautilus.audio.pcm import PcmStream
from nautilus.types import Waveform

LARGE: Final = 256 * 1024
"""Bytes that may take many milliseconds."""


class RawSound:
    """A `conversation.Sound` of raw samples."""

    def __init__(self, pcm: PcmStream, threads: Executor) -> None:
        self._pcm = pcm
        self._threads = threads

    async def read(self, data: bytes) -> AsyncGenerator[Waveform, None]:
        """Give the sound that the next bytes complete."""
        yield await read_pcm(self._pcm, data, self._threads)

    async def pause(self) -> Waveform:
        """Give what the resampler still held."""
        return self._pcm.finish()

    async def finish(self) -> AsyncGenerator[Waveform, None]:
        """Give what the resampler still held."""
        yield self._pcm.finish()


async def read_pcm(pcm: PcmStream | HeadedPcm, data: bytes, threads: Executor) -> Waveform:
    """Read a message's sound; a large one in a thread."""
    if len(data) <= LARGE:
        return pcm.read(data)
    return await asyncio.get_running_loop().run_in_executor(threads, pcm.read, data)
