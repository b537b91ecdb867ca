"""Counts a live conversation's sound, its utterances and how late it is, as they go by."""

from collections.abc import AsyncIterator

from nautilus.observe import StreamMeters
from nautilus.stream.outbox import Emit
from nautilus.stream.service import Change, Clear, Command, Commit
from nautilus.stream.session import Event, Final, Partial
from nautilus.types import SAMPLE_RATE


class Watch:
    """Stands between a client and `converse`, both ways."""

    def __init__(self, meters: StreamMeters) -> None:
        self._meters = meters
        self._seconds = 0.0

    async def commands(self, commands: AsyncIterator[Command]) -> AsyncIterator[Command]:
        """Give a client's commands as they come."""
        async for command in commands:
            if not isinstance(command, Commit | Clear | Change):
                seconds = len(command) / SAMPLE_RATE
                self._seconds += seconds
                self._meters.audio.add(seconds)
            yield command

    def events(self, emit: Emit) -> Emit:
        """Tell events as they come."""

        async def told(event: Event) -> None:
            if isinstance(event, Partial | Final):
                self._meters.lag.add(max(0.0, self._seconds - event.until))
                self._meters.utterances.add(isinstance(event, Final))
            await emit(event)

        return told
