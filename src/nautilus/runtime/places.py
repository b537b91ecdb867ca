"""How many live streams a model has room for: refused before those that are open come late.

A stream takes a share of the workers' time, measured at load for its look-ahead (`calibrate`): the smaller that is, the
more steps a second of sound takes. Streams are let in as long as all shares together leave the workers a reserve.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from nautilus.errors import OverloadedError
from nautilus.runtime.calibrate import MANY

RETRY_AFTER: Final = 5.0
"""Seconds after which a stream may have ended."""
SERVER_SHARE: Final = 0.0025
"""Of a core: what the server itself does for a stream that sends ten messages a second (0.0017 to 0.0028 measured)."""


@dataclass(frozen=True, slots=True)
class Room:
    """What streams may take."""

    shares: Mapping[float, float]
    """Of one worker's time that a stream takes, by look-ahead; one that is not there takes none."""
    workers: float
    """That streams may keep busy, the reserve left out."""
    most: int
    """Streams, whatever they take."""
    together: int = MANY
    """Streams of one look-ahead whose chunks go into one step."""


def room(shares: Mapping[float, float], workers: int, load: float, most: int, *, on_cpu: bool) -> Room:
    """Return what fits: `load` is the share of the workers, and of the one event loop, that streams may keep busy.

    On a CPU, workers and server share the cores. `most` bounds the streams whatever they take; 0: it does not.
    """
    beside = SERVER_SHARE if on_cpu else 0.0
    by_loop = max(1, int(load / SERVER_SHARE))
    return Room(
        shares={look_ahead: share + beside for look_ahead, share in shares.items()},
        workers=load * workers,
        most=min(most, by_loop) if most else by_loop,
    )


class Places:
    """The places of one model's live streams."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.open: Counter[float] = Counter()
        """Streams by look-ahead."""
        self.refused = 0
        """Streams, since the model was loaded."""

    def __repr__(self) -> str:
        return f"<Places: {self.open.total()} open, {self.busy:.2f} of {self._room.workers:.2f} workers taken>"

    @property
    def busy(self) -> float:
        """Return how many workers the open streams keep busy."""
        return sum(self.share(look_ahead) * count for look_ahead, count in self.open.items())

    @property
    def taken_share(self) -> float:
        """Return how much of the room is taken, from 0 to 1."""
        return max(self.busy / self._room.workers, self.open.total() / self._room.most)

    def capacity(self, look_ahead: float) -> int:
        """Return how many streams of this look-ahead fit where there are no others; at least one."""
        share = self.share(look_ahead)
        return max(1, min(self._room.most, int(self._room.workers / share))) if share else self._room.most

    @contextmanager
    def taken(self, look_ahead: float) -> Iterator[None]:
        """Take a place for the length of the block. Raises OverloadedError where there is none."""
        count = self.open.total()
        fits = self.busy + self.share(look_ahead) <= self._room.workers
        if count >= self._room.most or (count and not fits):
            self.refused += 1
            raise OverloadedError(RETRY_AFTER, "All places for live streams are taken")
        self.open[look_ahead] += 1
        try:
            yield
        finally:
            self.open[look_ahead] -= 1

    @property
    def together(self) -> int:
        """Return how many streams of one look-ahead go into one step with their chunks."""
        return self._room.together

    def share(self, look_ahead: float) -> float:
        """Return how much of a worker a stream keeps busy; 0 where nobody knows."""
        return self._room.shares.get(look_ahead, 0.0)
