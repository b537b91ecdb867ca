"""The result cache: transcripts of audio that was heard before, by the same model with the same options.

Entries are a tenant's own. They are bounded in age and, all tenants' together, in bytes: what was used least recently
goes first.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from nautilus.storage.audit import audited
from nautilus.storage.blobs import Blobs
from nautilus.storage.database import Database
from nautilus.storage.tables import cached

BATCH: Final = 200
"""Entries that go in one transaction."""

VERSION: Final = 1
"""Of what is stored: another one makes old entries useless."""

USED_SECONDS: Final = 60.0
"""How exactly it is remembered when an entry was used: a hit seldom writes."""

SLACK: Final = 0.02
"""Part of the bound that may be put before it is looked at again."""


def digest(audio: str, model: str, options: Mapping[str, Any]) -> str:
    """Return what a transcript depends on: SHA-256 of the audio, fingerprint of the model, options that change words.

    `options` are values of JSON; their order means nothing.
    """
    text = json.dumps([VERSION, audio, model, options], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Bounds on the result cache."""

    max_bytes: int
    """Of all transcripts together; 0: keep none."""
    max_seconds: float
    """How long one is used."""


class ResultCache:
    """Gets and puts transcripts. Methods raise StorageError."""

    def __init__(
        self, database: Database, blobs: Blobs, limits: CacheLimits, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._limits = limits
        self._now = now
        self._unchecked = limits.max_bytes  # what another process put is not known
        """Bytes put since the bound was last looked at."""
        self.hits = self.misses = 0

    def __repr__(self) -> str:
        return f"<ResultCache {self.hits} hits, {self.misses} misses, at most {self._limits.max_bytes} bytes>"

    async def get(self, tenant: str, key: str) -> bytes | None:
        """Return what was put under that digest, if it is there and not too old."""
        found = await self._fresh(tenant, key)
        if found is None:
            self.misses += 1
            return None
        try:
            data = await self._blobs.read_bytes(found.blob)
        except FileNotFoundError:  # deleted behind our back
            await self._forget([found], "transcript lost")
            self.misses += 1
            return None
        self.hits += 1
        return data

    async def put(self, tenant: str, key: str, data: bytes) -> None:
        """Keep `data` under that digest; what is larger than the whole cache is not kept."""
        if len(data) > self._limits.max_bytes or not self._limits.max_seconds:
            return
        blob, now = f"{tenant}/cache/{key}", self._now()
        await self._blobs.put_bytes(blob, data)
        row = {"tenant": tenant, "digest": key, "blob": blob, "bytes": len(data), "created_at": now, "used_at": now}
        with suppress(IntegrityError):  # somebody put the same just now
            async with self._database.begin() as connection:
                await connection.execute(delete(cached).where(cached.c.tenant == tenant, cached.c.digest == key))
                await connection.execute(insert(cached), [row])
        self._unchecked += len(data)
        if self._unchecked > self._limits.max_bytes * SLACK:
            await self.trim()

    async def trim(self) -> int:
        """Delete what is too old, and what was used least recently until the rest fits; return how many went."""
        self._unchecked = 0
        count = 0
        while rows := await self._too_many():
            await self._forget(rows, "transcript expired")
            count += len(rows)
        return count

    async def _fresh(self, tenant: str, key: str) -> Row[Any] | None:
        now = self._now()
        mine = (cached.c.tenant == tenant, cached.c.digest == key)
        wanted = select(cached).where(*mine, cached.c.created_at > now - self._limits.max_seconds)
        async with self._database.reading() as connection:
            found = (await connection.execute(wanted)).one_or_none()
        if found is not None and found.used_at < now - USED_SECONDS:
            async with self._database.begin() as connection:
                await connection.execute(update(cached).where(*mine).values(used_at=now))
        return found

    async def _too_many(self) -> list[Row[Any]]:
        """Return entries that must go, at most one batch of them."""
        async with self._database.reading() as connection:
            total = (await connection.execute(select(func.coalesce(func.sum(cached.c.bytes), 0)))).scalar_one()
            oldest = self._now() - self._limits.max_seconds
            expired = await connection.execute(select(cached).where(cached.c.created_at <= oldest).limit(BATCH))
            if rows := list(expired.all()):
                return rows
            excess, going = int(total) - self._limits.max_bytes, []
            for row in await connection.execute(
                select(cached).order_by(cached.c.used_at, cached.c.digest).limit(BATCH)
            ):
                if excess <= 0:
                    break
                going.append(row)
                excess -= row.bytes
            return going

    async def _forget(self, rows: list[Row[Any]], why: str) -> None:
        for row in rows:
            await self._blobs.delete(row.blob)
        which = or_(*((cached.c.tenant == row.tenant) & (cached.c.digest == row.digest) for row in rows))
        async with self._database.begin() as connection:
            deletion = delete(cached).where(which).returning(cached.c.tenant, cached.c.blob)
            gone = [(tenant, blob) for tenant, blob in await connection.execute(deletion)]
            await audited(connection, self._now(), "cache", why, gone)
