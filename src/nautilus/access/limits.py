"""How much callers have had, and whether there is more.

Requests, concurrent requests and live streams are counted for each key; audio for the whole tenant. Windows are fixed:
one begins with the first request or second of audio after the last has ended. Audio is charged once it is known how
much it was, so that what begins with something left may go beyond; the rest of the window is then closed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypeVar

import structlog
from limits.aio.storage import MemoryStorage
from limits.aio.storage import Storage as CountStorage
from limits.errors import StorageError as CountingError

from nautilus.access.keys import Caller
from nautilus.access.places import MemoryPlaces, Places
from nautilus.access.settings import Limits, LimitSettings
from nautilus.errors import LimitError, StorageError

log = structlog.get_logger(__name__)

MINUTE: Final = 60
DAY: Final = 86400
PER_SECOND: Final = 1000
"""Audio is counted in milliseconds, as counters are whole numbers."""
PATIENCE: Final = 1.0
"""Seconds to wait for Redis, and to leave it alone after it failed."""

Kind: TypeAlias = Literal["requests", "streams"]
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Window:
    """What a caller has left of one limit."""

    name: str
    """requests, audio-minute or audio-day."""
    limit: int
    seconds: int
    """How long the window is."""
    left: int
    reset: int
    """Seconds until there is all of it again."""
    exceeded: bool


class Limiter:
    """Counts what callers ask for."""

    def __init__(
        self,
        storage: CountStorage,
        places: Places,
        when_down: Literal["open", "closed"],
        failures: tuple[type[Exception], ...] = (CountingError,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._places = places
        self._when_down = when_down
        self._failures = failures
        """How storage and places say that they are away."""
        self._clock = clock
        self._down_until = 0.0
        self._due: Counter[str] = Counter()
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Limiter {type(self._storage).__name__}, {self._when_down} when down>"

    async def count(self, caller: Caller, *, with_audio: bool) -> tuple[Window, ...]:
        """Count a request and return what is left. Raises StorageError where that can't be told and must be."""
        return await self._ask(self._count(caller, with_audio), ())

    def charge(self, tenant: str, seconds: float) -> None:
        """Take note of audio that was heard; never waits and never fails."""
        self._due[tenant] += round(seconds * PER_SECOND)
        self._wake.set()

    def charge_to(self, caller: Caller) -> Callable[[float], None]:
        """Return what takes note of audio that a caller had heard; where its audio has no limit, of none."""
        if not (caller.limits.audio_seconds_per_minute or caller.limits.audio_seconds_per_day):
            return _nothing
        return lambda seconds: self.charge(caller.tenant, seconds)

    @asynccontextmanager
    async def place(self, kind: Kind, caller: Caller) -> AsyncIterator[None]:
        """Let a caller have one more of a kind for the length of the block. Raises LimitError, StorageError."""
        most = caller.limits.concurrent_requests if kind == "requests" else caller.limits.streams
        if not most:
            yield
            return
        name = f"{kind}/{caller.name}"
        uncounted = ""
        place = await self._ask(self._places.take(name, most), uncounted)
        if place is None:
            what = "requests run" if kind == "requests" else "live streams are open"
            raise LimitError(f"{most} {what} already with this key; try again when one has ended.", retry_after=1.0)
        try:
            yield
        finally:
            if place != uncounted:
                await self._give(name, place)

    async def write(self) -> None:
        """Charge what was noted; what can't be is lost."""
        due, self._due = self._due, Counter()
        for tenant, amount in due.items():
            if amount:
                for seconds in (MINUTE, DAY):
                    await self._ask(self._storage.incr(_audio(tenant, seconds), seconds, amount), 0, forgive=True)

    async def write_on(self) -> None:
        """Charge until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.write()

    async def _count(self, caller: Caller, with_audio: bool) -> tuple[Window, ...]:
        limits, windows = caller.limits, []
        if limits.requests_per_minute:
            windows.append(await self._requests(caller, limits.requests_per_minute))
        audio = ((MINUTE, limits.audio_seconds_per_minute), (DAY, limits.audio_seconds_per_day))
        for seconds, limit in audio if with_audio else ():
            if limit:
                windows.append(await self._audio(caller.tenant, seconds, limit))
        return tuple(windows)

    async def _requests(self, caller: Caller, limit: int) -> Window:
        key = f"nautilus/requests/{caller.name}"
        had = await self._storage.incr(key, MINUTE, 1)
        reset = await self._reset(key, MINUTE)
        return Window("requests", limit, MINUTE, max(0, limit - had), reset, exceeded=had > limit)

    async def _audio(self, tenant: str, seconds: int, limit: float) -> Window:
        key = _audio(tenant, seconds)
        left = limit * PER_SECOND - await self._storage.get(key)
        reset = await self._reset(key, seconds)
        name = "audio-minute" if seconds == MINUTE else "audio-day"
        return Window(name, int(limit), seconds, max(0, int(left) // PER_SECOND), reset, exceeded=left <= 0)

    async def _reset(self, key: str, seconds: int) -> int:
        """Return the whole seconds after which a window is surely over."""
        rest = await self._storage.get_expiry(key) - time.time()
        return int(rest) + 1 if rest > 0 else seconds

    async def _give(self, name: str, place: str) -> None:
        """Give a place back, also when the request was cancelled: Redis would keep it for a minute."""
        giving = self._ask(self._places.give(name, place), None, forgive=True)
        await asyncio.shield(giving)

    async def _ask(self, question: Awaitable[Answer], otherwise: Answer, *, forgive: bool = False) -> Answer:
        """Return an answer, or what stands for it when Redis is down. Raises StorageError if that must not be."""
        failure: Exception | None = None
        if self._clock() >= self._down_until:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await question
            except self._failures as error:
                failure = error
                self._down_until = self._clock() + PATIENCE
                log.warning("limits cannot be counted", redis_down=self._when_down, error=repr(error))
        elif asyncio.iscoroutine(question):
            question.close()  # never begun: it would have waited for what is down
        if self._when_down == "closed" and not forgive:
            raise StorageError("Limits cannot be counted: Redis is down.") from failure
        return otherwise


def check(windows: tuple[Window, ...]) -> None:
    """Raise LimitError if a limit is exceeded."""
    over = [window for window in windows if window.exceeded]
    if over:
        worst = max(over, key=lambda window: window.reset)
        what = "requests" if worst.name == "requests" else "seconds of audio"
        message = f"You have had your {worst.limit} {what} of {worst.seconds} s; go on in {worst.reset} s."
        raise LimitError(message, retry_after=worst.reset)


def is_limited(limits: Limits) -> bool:
    """Return whether anything of a caller is counted here."""
    return bool(
        limits.requests_per_minute
        or limits.concurrent_requests
        or limits.audio_seconds_per_minute
        or limits.audio_seconds_per_day
    )


@asynccontextmanager
async def open_limiter(settings: LimitSettings) -> AsyncIterator[Limiter]:
    """Count for the length of the block: here, or in Redis. Raises ConfigurationError."""
    url = settings.redis_url.get_secret_value()
    if not url:
        async with _running(Limiter(MemoryStorage(), MemoryPlaces(), "closed")) as limiter:
            yield limiter
        return
    from nautilus.access.in_redis import FAILURES, open_redis

    async with open_redis(url) as (storage, places):
        counted = Limiter(storage, places, settings.redis_down, (CountingError, *FAILURES))
        async with _running(counted) as limiter:
            yield limiter


@asynccontextmanager
async def _running(limiter: Limiter) -> AsyncIterator[Limiter]:
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(limiter.write_on(), name="charge audio")
        try:
            yield limiter
        finally:
            writing.cancel()
            await limiter.write()


def _audio(tenant: str, seconds: int) -> str:
    return f"nautilus/audio/{seconds}/{tenant}"


def _nothing(seconds: float) -> None:
    del seconds
