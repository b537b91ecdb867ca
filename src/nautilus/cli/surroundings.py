"""What `nautilus doctor` tries of what stands around a server: who may ask it, Redis, and other machines' clocks."""

import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa

from nautilus.access.fixed import read_keys
from nautilus.access.keys import Key
from nautilus.access.settings import is_loopback, keys_required
from nautilus.access.store import listed
from nautilus.assembly import Core
from nautilus.cli.findings import Finding, ok
from nautilus.errors import ConfigurationError, NautilusError
from nautilus.settings import Settings
from nautilus.storage.database import Database, State, open_database
from nautilus.storage.place import database_url

SOON: Final = 14 * 86400.0
"""Seconds before its end in which a key is worth a word."""
OLDEST_REDIS: Final = (5,)
"""Older ones refuse to write in a script that has asked for the time."""
MOST_APART: Final = 2.0
"""Seconds by which clocks of one service may differ."""
NAMED: Final = 5
"""Keys that are named; more are counted."""


async def keys(core: Core) -> AsyncIterator[Finding]:
    """Look who may ask the server, and whether keys end soon."""
    settings, now = core.settings, time.time()
    try:
        required, fixed = keys_required(settings.access, settings.host), read_keys(settings.access)
    except ConfigurationError as error:
        yield Finding("keys", "problem", str(error), "See docs/access.md.")
        return
    if not required:
        yield _open(settings)
        return
    valid = [key for key in await _stored(settings) if key.is_valid(now)]
    yield _closed(settings, len(fixed) + len(valid))
    ending = [key for key in valid if key.expires_at is not None and key.expires_at < now + SOON]
    if ending:
        yield Finding("keys that end", "warning", _named(ending), "`nautilus keys rotate ID` makes one like it.")


def _open(settings: Settings) -> Finding:
    if is_loopback(settings.host):
        return ok("keys", "asked of nobody; only this machine reaches it")
    said = f"asked of nobody: everybody who reaches {settings.host} may ask, as NAUTILUS_ACCESS__OPEN has it"
    return Finding(
        "keys", "warning", said, "Leave it out and make keys (`nautilus keys create`), or guard the network."
    )


def _closed(settings: Settings, count: int) -> Finding:
    if count:
        return ok("keys", f"asked of everybody; {count} are valid")
    advice = "Make one with `nautilus keys create NAME`."
    if is_loopback(settings.host):
        return Finding("keys", "warning", "asked of everybody, and there is none", advice)
    return Finding("keys", "problem", "asked of everybody, and there is none: the server will not start", advice)


def _named(ending: Iterable[Key]) -> str:
    soonest = sorted((key.expires_at or 0.0, key) for key in ending)
    shown = [f"{key.name} ({key.id}) on {_day(at)}" for at, key in soonest[:NAMED]]
    return ", ".join(shown) + (f" and {len(soonest) - NAMED} more" if len(soonest) > NAMED else "")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


async def _stored(settings: Settings) -> list[Key]:
    """Return the keys of the database; none of one that can't be asked, of which another check tells."""
    try:
        async with open_database(database_url(settings.storage), check=False) as database:
            return await listed(database) if await database.state() is State.CURRENT else []
    except NautilusError:
        return []


async def redis(core: Core) -> AsyncIterator[Finding]:
    """Ask Redis for its version and its time, where one is named."""
    limits = core.settings.limits
    if not limits.redis_url.get_secret_value():
        return
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    try:
        async with Redis.from_url(limits.redis_url.get_secret_value(), socket_timeout=2) as client:
            told = await client.info("server")
            seconds, micros = await client.time()
    except (RedisError, OSError, ValueError) as error:
        state: Literal["problem", "warning"] = "problem" if limits.redis_down == "closed" else "warning"
        what = "limited keys are answered 503" if limits.redis_down == "closed" else "limits are not counted"
        yield Finding("Redis", state, f"can't be asked, so that {what}: {error}", "See NAUTILUS_LIMITS__REDIS_URL.")
        return
    version = str(told.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:1] if part.isdigit()) < OLDEST_REDIS:
        yield Finding("Redis", "problem", f"{version} is too old", "Use Redis 5 or newer, or Valkey.")
    else:
        yield _clock("Redis", f"{version} answers", seconds + micros / 1e6 - time.time())


async def database_clock(core: Core) -> AsyncIterator[Finding]:
    """Compare clocks with PostgreSQL: a server whose clock is far off takes others' jobs for abandoned."""
    try:
        async with open_database(database_url(core.settings.storage), check=False) as database:
            if not database.is_sqlite:
                yield _clock("PostgreSQL's clock", "compared", await _gap(database))
    except NautilusError:  # another check tells
        return


async def _gap(database: Database) -> float:
    async with database.reading() as connection:
        told = await connection.scalar(sa.select(sa.extract("epoch", sa.func.clock_timestamp())))
    return float(told or 0.0) - time.time()


def _clock(subject: str, said: str, gap: float) -> Finding:
    if abs(gap) <= MOST_APART:
        return ok(subject, f"{said}; clocks differ by {abs(gap):.1f} s")
    advice = "Set the clocks of all machines by NTP: jobs, keys and limits are counted by them."
    return Finding(subject, "warning", f"clocks differ by {abs(gap):.0f} s", advice)
