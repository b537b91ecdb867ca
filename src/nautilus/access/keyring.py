"""Whom a key speaks for: keys of the settings, known from the start, and keys of the database, remembered for 2 s.

    key ──digest──▶ a key of the settings ──or──prefix──▶ remembered for less than 2 s ──or──▶ the database

So a key that is revoked ends at once on the server that was told, and within 2 s on all others. While the database is
away, what was known is good for a minute more. Prefixes that nobody has cost a bounded number of questions a second.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NoReturn
from weakref import WeakValueDictionary

import structlog

from nautilus.access import store
from nautilus.access.keys import Caller, Key, caller, digest, prefix_of, with_own
from nautilus.access.settings import Limits
from nautilus.errors import LimitError, NautilusError, NotReadyError, StorageError, UnauthorizedError
from nautilus.storage.database import Database

log = structlog.get_logger(__name__)

FRESH: Final = 2.0
"""Seconds for which the database is not asked again for a key."""
STALE: Final = 60.0
"""Seconds for which a key that was found is good while the database can't be asked."""
PATIENCE: Final = 5.0
"""Seconds to wait for the database."""
MOST_REMEMBERED: Final = 10_000
MOST_UNKNOWN: Final = 100
"""Questions a second for what is not remembered."""
NOTE_EVERY: Final = 60.0
"""Seconds between two times that it is written when keys were used."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the database said."""

    key: Key | None
    read_at: float
    asked_at: float
    """When it was asked last, though it may not have answered."""


class Keyring:
    """Finds the key that a caller sent."""

    def __init__(
        self,
        fixed: Mapping[str, Key],
        usual: Limits,
        database: Callable[[], Database],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._fixed = fixed
        self._fixed_by_id = {key.id: key for key in fixed.values()}
        self._usual = usual
        self._database = database
        self._clock = clock
        self._now = now
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._second, self._unknown = 0, 0
        self._changes = 0
        self._used: dict[str, float] = {}
        self._nobody = Caller(limits=with_own(usual, {}))

    def __repr__(self) -> str:
        return f"<Keyring {len(self._fixed)} of the settings, {len(self._entries)} remembered>"

    @property
    def anybody(self) -> Caller:
        """Who asks a server that asks for no keys."""
        return self._nobody

    async def find(self, value: str) -> Caller:
        """Return whom a key speaks for.

        Raises UnauthorizedError, LimitError where too many ask with what nobody has, NotReadyError, StorageError.
        """
        if key := self._fixed.get(digest(value)):
            return caller(key, self._usual, self._now())
        prefix = prefix_of(value)
        if prefix is None:
            raise UnauthorizedError
        found = await self._remembered(prefix, store.by_prefix)
        if found is None or not found.matches(value):
            raise UnauthorizedError
        return self._opened(found)

    async def find_id(self, key: str) -> Caller:
        """Return whom the key of this id speaks for. Raises as `find`."""
        if fixed := self._fixed_by_id.get(key):
            return caller(fixed, self._usual, self._now())
        found = await self._remembered(key, store.by_id)
        if found is None:
            raise UnauthorizedError
        return self._opened(found)

    def forget(self) -> None:
        """Ask the database again for every key: one was changed."""
        self._changes += 1
        for name, entry in self._entries.items():
            self._entries[name] = replace(entry, asked_at=-inf)

    async def note_use(self) -> None:
        """Write when keys were used. Raises StorageError, NotReadyError."""
        used, self._used = self._used, {}
        if used:
            await store.note_use(self._database(), used.items())

    def _opened(self, key: Key) -> Caller:
        now = self._now()
        opened = caller(key, self._usual, now)
        self._used[key.id] = now
        return opened

    async def _remembered(self, name: str, ask: Callable[[Database, str], Awaitable[Key | None]]) -> Key | None:
        lock = self._asking.get(name)
        if lock is None:
            entry = self._entries.get(name)
            if entry is not None and self._clock() < entry.asked_at + FRESH:
                return self._answer(entry)
            lock = self._asking.setdefault(name, asyncio.Lock())
        async with lock:  # of many who ask for the same, one asks the database
            entry = self._entries.get(name)
            if entry is None or self._clock() >= entry.asked_at + FRESH:
                entry = await self._asked(name, entry, ask)
            return self._answer(entry)

    async def _asked(
        self, name: str, before: Entry | None, ask: Callable[[Database, str], Awaitable[Key | None]]
    ) -> Entry:
        database = self._database()
        if before is None or before.key is None:
            self._check_unknown()
        asked_at, changes = self._clock(), self._changes
        try:
            async with asyncio.timeout(PATIENCE):
                entry = Entry(await ask(database, name), asked_at, asked_at)
        except (StorageError, TimeoutError) as error:
            if before is None or before.key is None:
                raise StorageError(f"The database did not tell a key: {error}.") from error
            log.warning("keys cannot be read", error=str(error))
            entry = Entry(before.key, before.read_at, asked_at)
        # What was read while a key was changed is an answer to who asked before, and to nobody after.
        self._entries[name] = entry if changes == self._changes else replace(entry, asked_at=-inf)
        self._entries.move_to_end(name)
        while len(self._entries) > MOST_REMEMBERED:
            self._entries.popitem(last=False)
        return entry

    def _answer(self, entry: Entry) -> Key | None:
        if entry.asked_at - entry.read_at > STALE:
            raise StorageError(f"The database has told nothing for {STALE:g} s.")
        return entry.key

    def _check_unknown(self) -> None:
        """Let those who guess not keep the database from others."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._unknown = second, 0
        self._unknown += 1
        if self._unknown > MOST_UNKNOWN:
            raise LimitError("Too many unknown keys are tried; try again in a second.", retry_after=1.0)


async def note_on(keyring: Keyring, every: float = NOTE_EVERY) -> NoReturn:
    """Write now and then, until cancelled, when keys were used; the last minute may be lost."""
    while True:
        await asyncio.sleep(every)
        try:
            await keyring.note_use()
        except NotReadyError:
            continue
        except NautilusError as error:
            log.warning("when keys were used cannot be written", error=str(error))
