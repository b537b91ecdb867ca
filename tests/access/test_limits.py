"""What the limiter promises, whether it counts here or in Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from pydantic import SecretStr

from nautilus.access.keys import Caller
from nautilus.access.limits import Limiter, Window, check, open_limiter
from nautilus.access.settings import Limits, LimitSettings
from nautilus.errors import ConfigurationError, LimitError, StorageError
from tests.access.redis import RedisServer, running_redis

_numbers = count(1)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[Limiter]:
    url = request.getfixturevalue("redis_server").url if request.param == "redis" else ""
    async with open_limiter(LimitSettings(redis_url=SecretStr(url))) as limiter:
        yield limiter


def caller(**limits: float) -> Caller:
    """Return somebody new."""
    number = next(_numbers)
    return Caller(f"tenant{number}", f"key_{number}", limits=Limits(**limits))  # type: ignore[arg-type]  # some are whole


def other_key(of: Caller) -> Caller:
    return Caller(of.tenant, f"{of.key}_other", limits=of.limits)


async def test_requests_are_counted_for_each_key(limiter: Limiter) -> None:
    one = caller(requests_per_minute=2)
    windows = [await limiter.count(one, with_audio=False) for _ in range(3)]
    assert [window.left for (window,) in windows] == [1, 0, 0]
    assert [window.exceeded for (window,) in windows] == [False, False, True]
    assert all(59 <= window.reset <= 61 for (window,) in windows)
    with pytest.raises(LimitError, match="2 requests of 60 s") as caught:
        check(windows[-1])
    assert caught.value.retry_after == windows[-1][0].reset
    check(await limiter.count(other_key(one), with_audio=False))


async def test_audio_is_counted_for_a_tenant_and_what_began_may_end(limiter: Limiter) -> None:
    one = caller(audio_seconds_per_minute=10, audio_seconds_per_day=100)
    charge = limiter.charge_to(one)
    charge(9.5)
    await limiter.write()
    minute, day = await limiter.count(one, with_audio=True)
    assert (minute.name, minute.limit, minute.left, minute.exceeded) == ("audio-minute", 10, 0, False)
    assert (day.name, day.limit, day.left, day.exceeded) == ("audio-day", 100, 90, False)
    charge(30.0)
    await limiter.write()
    windows = await limiter.count(other_key(one), with_audio=True)
    assert [(window.left, window.exceeded) for window in windows] == [(0, True), (60, False)]
    assert await limiter.count(one, with_audio=False) == ()
    with pytest.raises(LimitError, match="10 seconds of audio"):
        check(windows)
    check(await limiter.count(caller(audio_seconds_per_minute=10), with_audio=True))


async def test_the_day_is_counted_when_the_minute_is_not_asked_for(limiter: Limiter) -> None:
    one = caller(audio_seconds_per_day=1)
    limiter.charge(one.tenant, 1.0)
    await limiter.write()
    (day,) = await limiter.count(one, with_audio=True)
    assert day.exceeded
    assert 86_399 <= day.reset <= 86_401


async def test_places_are_given_back_whatever_happens(limiter: Limiter) -> None:
    one = caller(concurrent_requests=1, streams=2)
    async with limiter.place("requests", one):
        with pytest.raises(LimitError, match="1 requests run already"):
            async with limiter.place("requests", one):
                raise AssertionError
        async with limiter.place("streams", one), limiter.place("requests", other_key(one)):
            pass
    with pytest.raises(ZeroDivisionError):
        async with limiter.place("requests", one):
            raise ZeroDivisionError
    inside = asyncio.Event()

    async def stay() -> None:
        async with limiter.place("requests", one):
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        staying = tasks.create_task(stay())
        await inside.wait()
        staying.cancel()
    async with limiter.place("requests", one):
        pass


async def test_who_has_no_limits_is_not_counted(limiter: Limiter) -> None:
    one = caller()
    assert await limiter.count(one, with_audio=True) == ()
    limiter.charge_to(one)(1000.0)
    await limiter.write()
    async with limiter.place("streams", one):
        pass
    limited = Caller(one.tenant, one.key, limits=Limits(audio_seconds_per_day=10))
    check(await limiter.count(limited, with_audio=True))


async def test_servers_share_what_is_in_redis(redis_server: RedisServer) -> None:
    settings = LimitSettings(redis_url=SecretStr(redis_server.url))
    async with open_limiter(settings) as first, open_limiter(settings) as second:
        one = caller(requests_per_minute=2, streams=1, audio_seconds_per_day=5)
        for limiter in (first, second):
            check(await limiter.count(one, with_audio=True))
        with pytest.raises(LimitError, match="2 requests"):
            check(await first.count(one, with_audio=True))
        first.charge_to(one)(5.0)
        await first.write()
        assert (await second.count(one, with_audio=True))[-1].exceeded
        async with first.place("streams", one):
            with pytest.raises(LimitError):
                async with second.place("streams", one):
                    raise AssertionError
        async with second.place("streams", one):
            pass


async def test_when_redis_is_down_everybody_comes_in_or_nobody() -> None:
    one = caller(requests_per_minute=1, streams=1)
    with running_redis() as server:
        url = SecretStr(server.url)
        async with (
            open_limiter(LimitSettings(redis_url=url)) as opened,
            open_limiter(LimitSettings(redis_url=url, redis_down="closed")) as closed,
        ):
            for limiter in (opened, closed):
                await limiter.count(one, with_audio=False)
            server.stop()
            for _ in range(2):
                assert await opened.count(one, with_audio=False) == ()
                async with opened.place("streams", one), opened.place("streams", one):
                    pass
                with pytest.raises(StorageError):
                    await closed.count(one, with_audio=False)
                with pytest.raises(StorageError):
                    async with closed.place("streams", one):
                        raise AssertionError
            closed.charge("acme", 1.0)
            await closed.write()
            server.start()
            for limiter in (opened, closed):
                limiter._down_until = 0.0  # a second has gone
                (window,) = await limiter.count(one, with_audio=False)
            assert window.exceeded


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
async def test_a_wrong_address_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NAUTILUS_LIMITS__REDIS_URL"):
        async with open_limiter(LimitSettings(redis_url=SecretStr(url))):
            raise AssertionError


def test_of_several_limits_the_one_that_lasts_longest_is_told() -> None:
    windows = (
        Window("requests", 5, 60, 0, 20, exceeded=True),
        Window("audio-day", 7, 86400, 0, 4000, exceeded=True),
        Window("audio-minute", 7, 60, 3, 5000, exceeded=False),
    )
    with pytest.raises(LimitError, match="7 seconds of audio of 86400 s") as caught:
        check(windows)
    assert caught.value.retry_after == 4000
