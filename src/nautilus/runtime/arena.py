"""Memory that two processes share: arrays go from one to the other for the price of one copy."""

import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

import numpy as np

from nautilus.types import Waveform

_LEAST: Final = 1024**2
_SAMPLE: Final = np.dtype(np.float32).itemsize


def new_memory() -> int:
    """Return a descriptor of new, empty memory; the caller closes it."""
    if sys.platform == "linux":
        return os.memfd_create("nautilus arena")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Arena:
    """One message at a time: waveforms and then bytes. Whoever holds the turn writes; the other one reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def put(self, waveforms: Sequence[Waveform], data: bytes) -> int:
        """Write a message over the one before; returns how many samples lie before `data`."""
        samples = sum(map(len, waveforms))
        view = self._view(samples * _SAMPLE + len(data), grow=True)
        room = np.frombuffer(view, np.float32, samples)
        place = 0
        for waveform in waveforms:
            room[place : place + len(waveform)] = waveform
            place += len(waveform)
        view[place * _SAMPLE : place * _SAMPLE + len(data)] = data
        return samples

    def data(self, samples: int, size: int) -> bytes:
        """Return a copy of the bytes of a message."""
        start = samples * _SAMPLE
        return self._view(start + size)[start : start + size]

    def waveforms(self, lengths: Sequence[int]) -> list[Waveform]:
        """Return the waveforms of a message, not copied: they are its writer's again once it has been answered."""
        samples = sum(lengths)
        room = np.frombuffer(self._view(samples * _SAMPLE), np.float32, samples)
        ends = np.cumsum(lengths)
        return [room[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def close(self) -> None:
        """Close the descriptor; the memory goes with its last user."""
        os.close(self._descriptor)

    def _view(self, size: int, *, grow: bool = False) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            if grow and os.fstat(self._descriptor).st_size < size:
                os.ftruncate(self._descriptor, max(_LEAST, 1 << (size - 1).bit_length()))
            self._map = mmap.mmap(self._descriptor, 0)  # arrays on the former one keep it for as long as they live
        return self._map
