"""A client without a network: sound and wishes go in, events come out."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np

from nautilus.runtime.lane import Stream
from nautilus.stream.second import SecondPass
from nautilus.stream.service import Command, converse
from nautilus.stream.session import Event, Final, StreamLimits
from nautilus.types import Waveform

LIMITS = StreamLimits()


def pieces(waveform: Waveform, seed: int, longest: int = 4000) -> list[Waveform]:
    """Cut a waveform at random, empty pieces included."""
    random = np.random.default_rng(seed)
    cuts = np.cumsum(random.integers(0, longest, 4 * len(waveform) // longest + 1))
    return np.split(waveform, cuts[cuts < len(waveform)])


async def talk(
    stream: Stream, commands: Iterable[Command], limits: StreamLimits = LIMITS, second: SecondPass | None = None
) -> list[Event]:
    """Say everything, let every event be told, and return them."""
    told: list[Event] = []

    async def say() -> AsyncIterator[Command]:
        for command in commands:
            yield command
            await asyncio.sleep(0)  # as a socket would

    async def tell(event: Event) -> None:
        told.append(event)

    await converse(say(), tell, stream, limits, asyncio.Event(), second)
    return told


def finals(events: Iterable[Event]) -> list[str]:
    """Return the texts of the utterances that are over."""
    return [" ".join(word.text for word in event.words) for event in events if isinstance(event, Final)]
