"""Places in Redis are leases."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from nautilus.access.in_redis import RedisPlaces
from tests.access.redis import RedisServer, running_redis


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url) as client:
        await client.flushdb()
        yield client


async def expire(redis: Redis, name: str) -> None:
    """Let the leases of a name be over."""
    for place in await redis.zrange(f"nautilus/places/{name}", 0, -1):
        await redis.execute_command("ZADD", f"nautilus/places/{name}", "1", place)  # type: ignore[no-untyped-call]  # the library's


async def test_the_places_of_a_dead_server_are_free_after_their_lease(redis: Redis) -> None:
    dead, alive = RedisPlaces(redis), RedisPlaces(redis)
    assert await dead.take("streams/a", 1)
    assert await alive.take("streams/a", 1) is None
    await expire(redis, "streams/a")
    assert await alive.take("streams/a", 1)


async def test_what_is_held_is_renewed_and_what_was_given_back_is_not(redis: Redis) -> None:
    places = RedisPlaces(redis)
    held = await places.take("streams/a", 2)
    given = await places.take("streams/a", 2)
    assert held
    assert given
    await places.give("streams/a", given)
    await expire(redis, "streams/a")
    await places.renew()
    assert await redis.zrange("nautilus/places/streams/a", 0, -1) == [held.encode()]
    assert await places.take("streams/a", 1) is None
    assert 60 < await redis.ttl("nautilus/places/streams/a") <= 120


async def test_a_redis_that_lost_everything_learns_what_is_held(redis: Redis) -> None:
    places = RedisPlaces(redis)
    await places.take("streams/a", 1)
    await redis.flushdb()
    await places.renew()
    assert await places.take("streams/a", 1) is None
