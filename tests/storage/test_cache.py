"""The result cache."""

import asyncio

import pytest
from sqlalchemy import select

from nautilus.storage.blobs import Blobs
from nautilus.storage.cache import CacheLimits, ResultCache, digest
from nautilus.storage.database import Database
from nautilus.storage.tables import audit, cached

KEYS = [f"{number:064x}" for number in range(20)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(database: Database, blobs: Blobs, clock: Clock) -> ResultCache:
    return ResultCache(database, blobs, CacheLimits(max_bytes=100, max_seconds=3600), clock)


async def kept(blobs: Blobs) -> list[str]:
    return sorted([stored.key async for stored in blobs.listed()])


async def test_what_was_put_comes_back(cache: ResultCache) -> None:
    assert await cache.get("t", KEYS[0]) is None
    await cache.put("t", KEYS[0], b"text")
    assert await cache.get("t", KEYS[0]) == b"text"
    assert (cache.hits, cache.misses) == (1, 1)


async def test_tenants_see_their_own_only(cache: ResultCache) -> None:
    await cache.put("t", KEYS[0], b"mine")
    assert await cache.get("u", KEYS[0]) is None
    await cache.put("u", KEYS[0], b"yours")
    assert (await cache.get("t", KEYS[0]), await cache.get("u", KEYS[0])) == (b"mine", b"yours")


async def test_an_entry_grows_too_old(cache: ResultCache, clock: Clock, blobs: Blobs, database: Database) -> None:
    await cache.put("t", KEYS[0], b"text")
    clock.now += 3599
    assert await cache.get("t", KEYS[0]) == b"text"
    clock.now += 1
    assert await cache.get("t", KEYS[0]) is None
    assert (await cache.trim(), await kept(blobs)) == (1, [])
    async with database.reading() as connection:
        written = (await connection.execute(select(audit.c.tenant, audit.c.action, audit.c.subject))).all()
    assert written == [("t", "transcript expired", f"t/cache/{KEYS[0]}")]


async def test_what_was_used_least_recently_goes_first(cache: ResultCache, clock: Clock, blobs: Blobs) -> None:
    for key in KEYS[:3]:
        await cache.put("t", key, bytes(30))
        clock.now += 100
    await cache.get("t", KEYS[0])
    await cache.put("t", KEYS[3], bytes(60))
    assert await kept(blobs) == [f"t/cache/{KEYS[0]}", f"t/cache/{KEYS[3]}"]


async def test_it_never_holds_more_than_its_bound(cache: ResultCache, clock: Clock, blobs: Blobs) -> None:
    for number in range(50):
        clock.now += 1
        await cache.put("t", KEYS[number % 20], bytes(7 + number % 30))
        assert sum([stored.bytes async for stored in blobs.listed()]) <= 102


async def test_what_is_larger_than_the_whole_cache_is_not_kept(cache: ResultCache, blobs: Blobs) -> None:
    await cache.put("t", KEYS[0], bytes(101))
    assert await kept(blobs) == []


async def test_a_blob_that_is_gone_is_a_miss_and_its_row_goes(
    cache: ResultCache, blobs: Blobs, database: Database
) -> None:
    await cache.put("t", KEYS[0], b"text")
    await blobs.delete(f"t/cache/{KEYS[0]}")
    assert await cache.get("t", KEYS[0]) is None
    async with database.reading() as connection:
        assert (await connection.execute(select(cached))).all() == []


async def test_many_may_put_the_same_at_once(cache: ResultCache) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(cache.put("t", KEYS[0], b"text"))
    assert await cache.get("t", KEYS[0]) == b"text"


def test_a_digest_depends_on_everything_that_changes_words() -> None:
    usual = digest("a" * 64, "model", {"language": "en", "keywords": ["x"]})
    assert usual == digest("a" * 64, "model", {"keywords": ["x"], "language": "en"})
    others = {
        digest("b" * 64, "model", {"language": "en", "keywords": ["x"]}),
        digest("a" * 64, "other", {"language": "en", "keywords": ["x"]}),
        digest("a" * 64, "model", {"language": "de", "keywords": ["x"]}),
        digest("a" * 64, "model", {"language": "en", "keywords": []}),
    }
    assert (len(others), usual in others, len(usual)) == (4, False, 64)
