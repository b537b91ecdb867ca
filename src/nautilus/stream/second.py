"""The second pass: what a quick model told of an utterance while it was said, a better one hears again as a whole.

Partials come from the first pass, finals from the second. Should that fail, or take too long, the words of the first
are final: no utterance is lost, and none waits longer than `StreamLimits.second_pass`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final, TypeAlias

import structlog

from nautilus.audio.tape import Tape
from nautilus.errors import NautilusError
from nautilus.runtime.ears import Ears
from nautilus.runtime.lane import Lane
from nautilus.runtime.live import later
from nautilus.stream.session import Event
from nautilus.stream.session import Final as FinalEvent
from nautilus.traces.trace import span
from nautilus.types import SAMPLE_RATE, Options, Waveform, Word

log = structlog.get_logger(__name__)

LEAD: Final = 0.5
"""Seconds before an utterance's first word with which it is heard again."""

Lease: TypeAlias = Callable[[], AbstractAsyncContextManager[Lane]]
"""Lend the final model."""


class SecondPass:
    """Keeps the sound of the utterance that goes on, and has it heard again when it is over."""

    def __init__(self, lease: Lease, options: Options, threads: Executor, at_most: float) -> None:
        self._lease = lease
        self._options = options
        self._threads = threads
        self._at_most = at_most  # seconds
        self._tape = Tape()
        self._begin = 0.0

    def keep(self, sound: Waveform) -> None:
        """Take the next samples of the stream."""
        self._tape.append(sound)

    def forget(self, until: float) -> None:
        """Forget what came before that second of the stream."""
        self._begin = until
        self._tape.forget(round(until * SAMPLE_RATE))

    def corrected(self, events: list[Event], until: float) -> Coroutine[Any, Any, list[Event]]:
        """Return, when awaited, what is told of an utterance that ended at that second; its sound is kept no longer."""
        final = next((event for event in events if isinstance(event, FinalEvent)), None)
        start = max(self._begin, final.words[0].start - LEAD) if final else until
        sound = self._tape.read(round(start * SAMPLE_RATE), round(until * SAMPLE_RATE))
        self.forget(until)
        return self._corrected(events, final, sound, start)

    async def _corrected(
        self, events: list[Event], final: FinalEvent | None, sound: Waveform, start: float
    ) -> list[Event]:
        if final is None:
            return events
        with span("second pass", {"nautilus.audio_seconds": len(sound) / SAMPLE_RATE}):
            words = await self._heard(sound, start)
        return [replace(event, words=words) if event is final and words else event for event in events]

    async def _heard(self, sound: Waveform, start: float) -> tuple[Word, ...]:
        """Return the words of the second pass; none where it fails, or hears none."""
        try:
            async with asyncio.timeout(self._at_most), self._lease() as lane:
                ears = Ears(lane.submit, lane.info, self._options, self._threads)
                return later(await ears.hear_all(sound), start).words
        except NautilusError as error:
            log.warning("second pass failed", error=str(error))
        except TimeoutError:
            log.warning("second pass took too long", seconds=self._at_most)
        return ()
