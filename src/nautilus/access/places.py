"""How many of something one caller has at once: counted here, or in Redis for several servers together.

In Redis a place is a lease: what holds it renews it, and the places of a server that died are free after a minute.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable
from typing import Final, NoReturn, Protocol, cast

from redis.asyncio import Redis

LEASE: Final = 60
"""Seconds."""
RENEW_EVERY: Final = 20.0

TAKE: Final = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if tonumber(ARGV[2]) > 0 and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], 2 * ARGV[3])
return 1
"""
"""Takes a place, or renews it where no limit is given; by Redis' clock, as servers' may differ."""


class Places(Protocol):
    """Counts places by what they are for."""

    async def take(self, name: str, most: int, /) -> str | None:
        """Return a place, or None where all are taken."""
        ...

    async def give(self, name: str, place: str, /) -> None:
        """Give a place back."""
        ...


class MemoryPlaces:
    """Places of this server."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    async def take(self, name: str, most: int, /) -> str | None:
        """Return a place, or None where all are taken."""
        if self._taken[name] >= most:
            return None
        self._taken[name] += 1
        return "taken"

    async def give(self, name: str, place: str, /) -> None:
        """Give a place back."""
        del place
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]


class RedisPlaces:
    """Places of all servers that count in one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._held: dict[str, str] = {}
        """Names of places."""

    async def take(self, name: str, most: int, /) -> str | None:
        """Return a place, or None where all are taken."""
        place = os.urandom(12).hex()
        if not await self._ask(name, place, most):
            return None
        self._held[place] = name
        return place

    async def give(self, name: str, place: str, /) -> None:
        """Give a place back."""
        self._held.pop(place, None)
        await self._redis.zrem(_key(name), place)

    async def renew(self) -> None:
        """Renew what is held."""
        for place, name in list(self._held.items()):
            await self._ask(name, place, 0)
            if place not in self._held:  # given back meanwhile
                await self._redis.zrem(_key(name), place)

    async def _ask(self, name: str, place: str, most: int) -> bool:
        answer = self._redis.eval(TAKE, 1, _key(name), place, str(most), str(LEASE))
        return bool(await cast("Awaitable[int]", answer))


async def renew_on(places: RedisPlaces, failures: tuple[type[Exception], ...]) -> NoReturn:
    """Renew until cancelled; a Redis that is away is asked another time."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        try:
            await places.renew()
        except failures:
            continue


def _key(name: str) -> str:
    return f"nautilus/places/{name}"
