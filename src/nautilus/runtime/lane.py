"""The seam for places: a model as the pipeline sees it, whether it runs in this process or elsewhere."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from nautilus.engines.base import EngineInfo, Report
from nautilus.observe import LaneMeters
from nautilus.runtime.live import LiveStream
from nautilus.runtime.places import Places
from nautilus.types import Hypothesis, Options, Priority, Waveform


@dataclass(frozen=True, slots=True)
class Heard:
    """What a lane answers for one waveform."""

    hypothesis: Hypothesis
    queue: float
    """Seconds it waited for a batch."""
    inference: float
    """Seconds its batch took."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """What goes on in a lane."""

    waiting: int
    """Windows in the queue."""
    running: int
    """Windows at the engine."""
    places: Places
    meters: LaneMeters


class Lane(Protocol):
    """A model as the pipeline sees it. A local lane batches; a remote one forwards."""

    @property
    def info(self) -> EngineInfo:
        """What this model is and can do."""
        ...

    async def submit(
        self, audio: Waveform, options: Options, priority: Priority, /, *, admitted: bool = False
    ) -> Heard:
        """Return what the model heard in one waveform. Cancel to give up the place in the queue.

        A full queue refuses with OverloadedError, but not what is `admitted`: the rest of a recording whose first
        window was taken.
        """
        ...

    def stream(self, look_ahead: float, /) -> AbstractAsyncContextManager[LiveStream]:
        """Open a live stream for the length of a block; `look_ahead` is one of `EngineInfo.look_aheads`.

        Raises UnsupportedError for a model that hears none, OverloadedError where no more fit in.
        """
        ...

    def state(self) -> LaneState:
        """Return what goes on here."""
        ...


OpenLane: TypeAlias = Callable[[str, Report], AbstractAsyncContextManager[Lane]]
"""Load the named model on entry, telling how far it is; free it on exit."""
