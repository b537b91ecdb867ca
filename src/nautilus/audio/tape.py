"""The part of a recording, or of a stream, that is still needed."""

from collections import deque

import numpy as np

from nautilus.types import Waveform


class Tape:
    """Keeps samples by their place in the recording."""

    def __init__(self) -> None:
        self._parts: deque[Waveform] = deque()
        self._start = 0
        self.end = 0
        """Samples that have come so far."""

    def append(self, part: Waveform) -> None:
        """Keep a copy of the next samples."""
        self._parts.append(part.copy())
        self.end += len(part)

    def read(self, start: int, stop: int) -> Waveform:
        """Copy samples `start` to `stop` of the recording into one array."""
        wanted, place = [], self._start
        for part in self._parts:
            wanted.append(part[max(0, start - place) : max(0, stop - place)])
            place += len(part)
        return np.concatenate(wanted) if wanted else np.zeros(0, np.float32)

    def forget(self, before: int) -> None:
        """Drop whole parts that lie before sample `before`."""
        while self._parts and self._start + len(self._parts[0]) <= before:
            self._start += len(self._parts.popleft())
