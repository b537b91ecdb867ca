"""Counts a live conversation's sound, its utterances and how late it is, as they go by."""

import time
from collections.abc import AsyncIterator, Callable

from nautilus.observe import StreamMeters
from nautilus.stream.outbox import Emit
from nautilus.stream.service import Change, Clear, Command, Commit
from nautilus.stream.session import Event, Final, Partial, SpeechStarted
from nautilus.traces.trace import Attributes, Trace, here, id_of
from nautilus.types import SAMPLE_RATE

CHARGE_EVERY = 10.0
"""Seconds of sound."""


class Watch:
    """Stands between a client and `converse`, both ways."""

    def __init__(self, meters: StreamMeters, charge: Callable[[float], None]) -> None:
        self._meters = meters
        self._charge = charge
        """Told of seconds of sound, now and then and at the end."""
        self._seconds = self._charged = 0.0
        self._trace = here()
        self._spoken: tuple[float, float] | None = None
        """When the utterance was noticed that goes on, and its second in the stream."""

    async def commands(self, commands: AsyncIterator[Command]) -> AsyncIterator[Command]:
        """Give a client's commands as they come."""
        try:
            async for command in commands:
                if not isinstance(command, Commit | Clear | Change):
                    self._count(len(command) / SAMPLE_RATE)
                yield command
        finally:
            self._charge(self._seconds - self._charged)

    def _count(self, seconds: float) -> None:
        self._seconds += seconds
        self._meters.audio.add(seconds)
        if self._seconds - self._charged >= CHARGE_EVERY:
            self._charge(self._seconds - self._charged)
            self._charged = self._seconds

    def events(self, emit: Emit) -> Emit:
        """Tell events as they come."""

        async def told(event: Event) -> None:
            if isinstance(event, Partial | Final):
                lag = max(0.0, self._seconds - event.until)
                self._meters.lag.add(lag, id_of(self._trace))
                self._meters.utterances.add(isinstance(event, Final))
            await emit(event)
            if self._trace:
                self._tell(event, self._trace)

        return told

    def _tell(self, event: Event, trace: Trace) -> None:
        """Write an utterance down when it is over: from when it was noticed until its last words were told."""
        if isinstance(event, SpeechStarted):
            self._spoken = time.monotonic(), event.at
        elif isinstance(event, Final) and self._spoken:
            (since, start), self._spoken = self._spoken, None
            about: Attributes = {
                "nautilus.utterance": event.utterance,
                "nautilus.words": len(event.words),
                "nautilus.from_second": start,
                "nautilus.audio_seconds": event.until - start,
                "nautilus.lag_seconds": max(0.0, self._seconds - event.until),
            }
            trace.add("utterance", since, time.monotonic(), about)
