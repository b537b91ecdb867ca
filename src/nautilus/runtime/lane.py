"""The seam for places: a model as the pipeline sees it, whether it runs in this process or elsewhere."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from nautilus.engines.base import EngineInfo, Live, Report
from nautilus.errors import UnsupportedError
from nautilus.observe import LaneMeters
from nautilus.runtime.places import Places
from nautilus.types import Claim, Hypothesis, Options, Waveform


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


class Stream(Protocol):
    """A live stream at a model, by one caller; `tests/runtime/test_streams.py` is what every one promises."""

    @property
    def chunk(self) -> int:
        """Samples that are heard at once: with no more in a piece, each place where an utterance may end is told."""
        ...

    async def hear(self, sound: Waveform, /) -> Live:
        """Take the next samples, any number; return what is heard of the utterance so far. Raises EngineError."""
        ...

    async def cut(self, live: Live, /) -> Live:
        """End the utterance at `live.until`, where `live` is what `hear` returned last; return all that was heard.

        What came since then begins the next one.
        """
        ...

    async def finish(self) -> Live:
        """Return all of the utterance, to the last sample. What comes then is a new one."""
        ...


class Lane(Protocol):
    """A model as the pipeline sees it. A local lane batches; a remote one forwards."""

    @property
    def info(self) -> EngineInfo:
        """What this model is and can do."""
        ...

    async def submit(self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False) -> Heard:
        """Return what the model heard in one waveform. Cancel to give up the place in the queue.

        Raises OverloadedError as `check` does, but not for what is `admitted`: the rest of a recording whose first
        window was taken.
        """
        ...

    def check(self, claim: Claim, /) -> None:
        """Raise OverloadedError where a new recording would be refused: its owner has too much waiting, or all have."""
        ...

    def stream(self, wait: float, options: Options, /) -> AbstractAsyncContextManager[Stream]:
        """Open a live stream for the length of a block; `wait` is one of `EngineInfo.waits`.

        Of the options, the language is honoured where the model is told one. Raises UnsupportedError for another wait
        and for a language that the model does not know, OverloadedError where no more fit in.
        """
        ...

    def state(self) -> LaneState:
        """Return what goes on here."""
        ...


def check_language(language: str | None, info: EngineInfo) -> None:
    """Raise UnsupportedError for a language that a model does not know."""
    if language and info.languages and language not in info.languages:
        raise UnsupportedError(
            f"The model {info.name} does not know the language '{language}'; it knows: {', '.join(info.languages)}.",
            "language",
        )


OpenLane: TypeAlias = Callable[[str, Report], AbstractAsyncContextManager[Lane]]
"""Load the named model on entry, telling how far it is; free it on exit."""
