"""Keys in the database: each change in one transaction with its line in the audit."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.access.keys import Key, Scope, make_key
from nautilus.errors import KeyNotFoundError
from nautilus.storage.audit import audited
from nautilus.storage.database import Database
from nautilus.storage.tables import keys

USUAL_GRACE: Final = 86400.0
"""Seconds that a key which was replaced stays valid."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a new key is to be like."""

    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    limits: dict[str, float]
    expires_at: float | None = None
    """Seconds since 1970; None: never."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new key, and the one time that it is shown."""

    key: Key
    value: str


async def create(database: Database, wanted: Wanted, actor: str, now: float) -> Made:
    """Make a key. Raises StorageError."""
    async with database.begin() as connection:
        return await _insert(connection, wanted, actor, now, "create")


async def listed(database: Database, tenant: str | None = None) -> list[Key]:
    """Return all keys, or a tenant's, the oldest first."""
    query = sa.select(keys).order_by(keys.c.created_at, keys.c.id)
    if tenant is not None:
        query = query.where(keys.c.tenant == tenant)
    async with database.reading() as connection:
        return [_key(row) for row in await connection.execute(query)]


async def by_prefix(database: Database, prefix: str) -> Key | None:
    """Return the key that begins so."""
    return await _one(database, keys.c.prefix == prefix)


async def by_id(database: Database, key: str) -> Key | None:
    """Return the key that is called so."""
    return await _one(database, keys.c.id == key)


async def count_valid(database: Database, now: float) -> int:
    """Return how many keys open anything."""
    valid = keys.c.revoked_at.is_(None) & (keys.c.expires_at.is_(None) | (keys.c.expires_at > now))
    async with database.reading() as connection:
        query = sa.select(sa.func.count()).select_from(keys).where(valid)
        return int((await connection.execute(query)).scalar_one())


async def revoke(database: Database, key: str, actor: str, now: float) -> Key:
    """End a key for good; one that was revoked already stays so. Raises KeyNotFoundError."""
    async with database.begin() as connection:
        found = await _get(connection, key)
        if found.revoked_at is None:
            await connection.execute(sa.update(keys).where(keys.c.id == key).values(revoked_at=now))
            await audited(connection, now, actor, "revoke key", [(found.tenant, key)])
        return await _get(connection, key)


async def rotate(database: Database, key: str, actor: str, now: float, grace: float = USUAL_GRACE) -> Made:
    """Make a key like this one, which stays valid for `grace` seconds, no longer than it was. Raises KeyNotFoundError.

    The new key has the old one's time to live, counted anew.
    """
    async with database.begin() as connection:
        old = await _get(connection, key)
        if not old.is_valid(now):
            raise KeyNotFoundError(key)
        lifetime = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        wanted = Wanted(old.tenant, old.name, old.scopes, dict(old.limits), lifetime)
        made = await _insert(connection, wanted, actor, now, "rotate")
        ends = min(now + grace, old.expires_at) if old.expires_at is not None else now + grace
        await connection.execute(sa.update(keys).where(keys.c.id == key).values(expires_at=ends))
        return made


async def note_use(database: Database, used: Iterable[tuple[str, float]]) -> None:
    """Write when keys were last used."""
    async with database.begin() as connection:
        for key, at in used:
            await connection.execute(sa.update(keys).where(keys.c.id == key).values(used_at=at))


async def _insert(connection: AsyncConnection, wanted: Wanted, actor: str, now: float, action: str) -> Made:
    made = make_key()
    key = Key(
        id=f"key_{int(now * 1000):012x}{os.urandom(8).hex()}",
        tenant=wanted.tenant,
        name=wanted.name,
        prefix=made.prefix,
        digest=made.digest,
        scopes=wanted.scopes,
        limits=wanted.limits,
        created_at=now,
        expires_at=wanted.expires_at,
    )
    row = {column.name: getattr(key, column.name) for column in keys.columns} | {"scopes": list(key.scopes)}
    await connection.execute(sa.insert(keys), row)
    await audited(connection, now, actor, f"{action} key", [(key.tenant, key.id)])
    return Made(key, made.value)


async def _get(connection: AsyncConnection, key: str) -> Key:
    row = (await connection.execute(sa.select(keys).where(keys.c.id == key))).one_or_none()
    if row is None:
        raise KeyNotFoundError(key)
    return _key(row)


async def _one(database: Database, condition: sa.ColumnElement[bool]) -> Key | None:
    async with database.reading() as connection:
        row = (await connection.execute(sa.select(keys).where(condition))).one_or_none()
    return None if row is None else _key(row)


def _key(row: sa.Row[Any]) -> Key:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    return Key(**(values | {"scopes": tuple(values["scopes"])}))
