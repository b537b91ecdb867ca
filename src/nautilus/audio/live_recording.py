"""A container that is still being recorded, as the server sees it: bytes go to its process, waveforms come back."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, TypeAlias

import numpy as np

from nautilus.errors import BadAudioError
from nautilus.types import Waveform

Feed: TypeAlias = Callable[[bytes], Awaitable[tuple[Waveform, bool]]]
"""Decodes the next bytes, or the end where there are none; tells as well whether the container ends there."""

PIECE: Final = 16 * 1024
"""Bytes decoded in one go: a second of speech at 128 kbit/s."""


class LiveRecording:
    """A `conversation.Sound` of a container; valid inside its `listen` block."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._begun = self._ended = False

    async def read(self, data: bytes) -> AsyncGenerator[Waveform, None]:
        """Give the sound that the next bytes complete. Raises BadAudioError for what is none."""
        self._begun = self._begun or bool(data)
        for start in range(0, len(data), PIECE):
            if self._ended:
                raise BadAudioError("The recording ended before this; open another stream for another one.")
            waveform, self._ended = await self._feed(data[start : start + PIECE])
            yield waveform

    async def pause(self) -> Waveform:
        """Give nothing: all that could be decoded has been."""
        return np.zeros(0, np.float32)

    async def finish(self) -> AsyncGenerator[Waveform, None]:
        """Give the rest. Raises BadAudioError where nothing could be decoded of what came."""
        if self._begun and not self._ended:
            waveform, self._ended = await self._feed(b"")
            yield waveform
