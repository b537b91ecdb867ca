import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import numpy as np
import pytest

from nautilus.engines.base import EngineInfo, Report
from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError, ModelLoadError, NotReadyError, OverloadedError
from nautilus.runtime.lane import Heard, Lane, LaneState, Stream
from nautilus.runtime.pool import PoolLimits, open_pool
from nautilus.types import Claim, Hypothesis, Options, Waveform

LIMITS = PoolLimits(max_models=2, idle_ttl=10, sweep_every=1000)


class Echo:
    """A lane that says its model's name."""

    def stream(self, wait: float, options: Options, /) -> AbstractAsyncContextManager[Stream]:
        raise NotImplementedError(wait)

    def state(self) -> LaneState:
        raise NotImplementedError

    def __init__(self, name: str) -> None:
        self.info: EngineInfo = FakeEngine().info
        self._name = name

    async def submit(self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False) -> Heard:
        del audio, options, claim, admitted
        return Heard(Hypothesis(self._name), 0, 0)

    def check(self, claim: Claim, /) -> None:
        del claim


class Shelf:
    """Opens lanes and notes what was loaded and freed."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.broken: set[str] = set()

    @asynccontextmanager
    async def open(self, name: str, report: Report) -> AsyncIterator[Lane]:
        report("loading")
        await asyncio.sleep(0)
        if name in self.broken:
            raise OSError("no such file")
        self.log.append(f"+{name}")
        try:
            yield Echo(name)
        finally:
            self.log.append(f"-{name}")


async def say(lane: Lane) -> str:
    return (await lane.submit(np.zeros(1, np.float32), Options(), Claim())).hypothesis.text


async def test_many_callers_load_a_model_once() -> None:
    shelf = Shelf()
    async with open_pool(shelf.open, LIMITS) as pool:

        async def ask() -> str:
            async with pool.lease("a") as lane:
                return await say(lane)

        assert await asyncio.gather(*(ask() for _ in range(5))) == ["a"] * 5
    assert shelf.log == ["+a", "-a"]


async def test_the_longest_idle_model_makes_room() -> None:
    shelf = Shelf()
    async with open_pool(shelf.open, LIMITS) as pool:
        for name in ("a", "b", "c"):
            async with pool.lease(name):
                pass
        assert pool.loaded() == ["b", "c"]
    assert shelf.log[:4] == ["+a", "+b", "-a", "+c"]


async def test_models_in_use_are_never_evicted() -> None:
    shelf = Shelf()
    async with open_pool(shelf.open, LIMITS) as pool, pool.lease("a"), pool.lease("b"):
        with pytest.raises(OverloadedError):
            async with pool.lease("c"):
                pass


async def test_the_default_model_stays_and_idle_ones_go() -> None:
    shelf, clock = Shelf(), [0.0]
    async with open_pool(shelf.open, LIMITS, now=lambda: clock[0]) as pool:
        await pool.keep("a")
        async with pool.lease("b"):
            pass
        clock[0] = 11.0
        await pool.sweep()
        assert pool.loaded() == ["a"]


async def test_a_model_that_fails_tells_everyone_and_may_be_tried_again() -> None:
    shelf = Shelf()
    shelf.broken.add("a")
    async with open_pool(shelf.open, LIMITS) as pool:
        for _ in range(2):
            with pytest.raises(ModelLoadError, match="no such file"):
                await pool.keep("a")
        shelf.broken.clear()
        async with pool.lease("a") as lane:
            assert await say(lane) == "a"


async def test_every_model_is_freed_at_the_end() -> None:
    shelf = Shelf()
    async with open_pool(shelf.open, LIMITS) as pool, pool.lease("a"), pool.lease("b"):
        pass
    assert sorted(shelf.log) == ["+a", "+b", "-a", "-b"]


async def test_too_many_who_wait_for_a_model_are_told_to_come_back() -> None:
    gate = asyncio.Event()

    @asynccontextmanager
    async def slow(name: str, report: Report) -> AsyncIterator[Lane]:
        report("fetching")
        await gate.wait()
        yield Echo(name)

    limits = PoolLimits(max_waiting=1, sweep_every=1000)
    async with open_pool(slow, limits) as pool, asyncio.TaskGroup() as tasks:
        tasks.create_task(pool.keep("a"))
        await asyncio.sleep(0.01)
        with pytest.raises(NotReadyError, match="fetching"):
            await pool.keep("a")
        gate.set()


async def test_a_waiter_at_the_end_gets_an_error() -> None:
    @asynccontextmanager
    async def never(name: str, report: Report) -> AsyncIterator[Lane]:
        del report
        await asyncio.Event().wait()
        yield Echo(name)

    async def wait() -> None:
        async with asyncio.timeout(5), open_pool(never, LIMITS) as pool, asyncio.TaskGroup() as tasks:
            waiter = tasks.create_task(pool.keep("a"))
            await asyncio.sleep(0.01)
            raise_later.append(waiter)
            raise RuntimeError("stop")

    raise_later: list[asyncio.Task[Lane]] = []
    with pytest.raises(ExceptionGroup):
        await wait()
    assert raise_later[0].cancelled() or isinstance(raise_later[0].exception(), EngineError)
