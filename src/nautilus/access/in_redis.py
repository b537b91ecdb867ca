"""Counting in Redis, for several servers together. Imported only where a setting names one, as it costs start-up time.

A place is a lease: what holds it renews it, and the places of a server that died are free after a minute.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn, cast

from limits.aio.storage import RedisStorage
from redis.asyncio import Redis
from redis.exceptions import RedisError

from nautilus.errors import ConfigurationError

PATIENCE: Final = 1.0
"""Seconds to wait for Redis."""
FAILURES: Final = (RedisError, OSError, TimeoutError)
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


async def renew_on(places: RedisPlaces) -> NoReturn:
    """Renew until cancelled; a Redis that is away is asked another time."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        try:
            await places.renew()
        except FAILURES:
            continue


def _key(name: str) -> str:
    return f"nautilus/places/{name}"


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[tuple[RedisStorage, RedisPlaces]]:
    """Give what counts in a Redis, for the length of the block. Raises ConfigurationError."""
    if not url.startswith(("redis://", "rediss://")):
        raise ConfigurationError("NAUTILUS_LIMITS__REDIS_URL must be redis://[:password@]host:port/number.")
    try:
        redis = Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
        pool: Any = redis.connection_pool  # of which its types know nothing
        storage = RedisStorage(f"async+{url}", True, "redispy", connection_pool=pool)  # noqa: FBT003 - it raises its own errors
    except ValueError as error:
        raise ConfigurationError(f"NAUTILUS_LIMITS__REDIS_URL cannot be used: {error}.") from None
    places = RedisPlaces(redis)
    async with redis, asyncio.TaskGroup() as tasks:
        renewing = tasks.create_task(renew_on(places), name="renew places")
        try:
            yield storage, places
        finally:
            renewing.cancel()
