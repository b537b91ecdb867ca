"""Keys of the database: found, remembered for two seconds, and ended."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from nautilus.access import store
from nautilus.access.keyring import FRESH, MOST_UNKNOWN, STALE, Keyring
from nautilus.access.keys import Caller, Key, digest, make_key
from nautilus.access.settings import Limits
from nautilus.errors import KeyNotFoundError, LimitError, NotReadyError, StorageError, UnauthorizedError
from nautilus.storage.database import Database, open_database
from nautilus.storage.tables import audit, keys

WANTED = store.Wanted("acme", "a key", ("transcribe", "jobs"), {"streams": 3})


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def ring(database: Database, clock: Clock) -> Keyring:
    return Keyring({}, Limits(), lambda: database, clock, time.time)


async def audited(database: Database) -> list[tuple[str, str, str]]:
    async with database.reading() as connection:
        rows = await connection.execute(sa.select(audit.c.actor, audit.c.action, audit.c.subject).order_by(audit.c.id))
        return [tuple(row) for row in rows]


async def test_a_key_is_found_and_nothing_of_it_is_stored(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    caller = await ring(database, Clock()).find(made.value)
    assert caller == Caller("acme", made.key.id, frozenset({"transcribe", "jobs"}), Limits(streams=3))
    async with database.reading() as connection:
        (row,) = await connection.execute(sa.select(keys))
    assert made.value.split("_", 2)[2] not in str(row)
    assert await store.listed(database) == [made.key]
    assert await store.listed(database, "globex") == []
    assert await audited(database) == [("a test", "create key", made.key.id)]


async def test_what_is_no_key_is_refused(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    keyring = ring(database, Clock())
    for wrong in ("", "nonsense", make_key().value, made.value[:-1] + ("a" if made.value[-1] != "a" else "b")):
        with pytest.raises(UnauthorizedError):
            await keyring.find(wrong)


async def test_a_revoked_key_ends_at_once_here_and_soon_on_other_servers(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    clock = Clock()
    here, there = ring(database, clock), ring(database, clock)
    await here.find(made.value)
    await there.find(made.value)
    revoked = await store.revoke(database, made.key.id, "a test", time.time())
    here.forget()
    with pytest.raises(UnauthorizedError):
        await here.find(made.value)
    await there.find(made.value)
    clock.at += FRESH
    with pytest.raises(UnauthorizedError):
        await there.find(made.value)
    assert await store.revoke(database, made.key.id, "a test", time.time() + 5) == revoked
    assert [action for _, action, _ in await audited(database)] == ["create key", "revoke key"]


async def test_an_expired_key_is_none(database: Database) -> None:
    now = time.time()
    made = await store.create(database, replace(WANTED, expires_at=now + 60), "a test", now)
    later = Keyring({}, Limits(), lambda: database, Clock(), lambda: now + 60)
    await ring(database, Clock()).find(made.value)
    with pytest.raises(UnauthorizedError):
        await later.find(made.value)
    assert (await store.count_valid(database, now), await store.count_valid(database, now + 60)) == (1, 0)


async def test_a_rotated_key_is_valid_for_its_grace_and_lives_as_long(database: Database) -> None:
    now = time.time()
    old = await store.create(database, replace(WANTED, expires_at=now + 1000), "a test", now)
    new = await store.rotate(database, old.key.id, "a test", now + 500, grace=60)
    assert replace(new.key, id="", prefix="", digest="") == replace(
        old.key, id="", prefix="", digest="", created_at=now + 500, expires_at=now + 1500
    )
    for after, refused in ((559, False), (560, True)):
        keyring = Keyring({}, Limits(), lambda: database, Clock(), lambda after=after: now + after)  # type: ignore[misc]  # mypy knows no defaults here
        assert (await keyring.find(new.value)).key == new.key.id
        if refused:
            with pytest.raises(UnauthorizedError):
                await keyring.find(old.value)
        else:
            await keyring.find(old.value)
    with pytest.raises(KeyNotFoundError):
        await store.rotate(database, old.key.id, "a test", now + 600)
    with pytest.raises(KeyNotFoundError):
        await store.revoke(database, "key_none", "a test", now)


async def test_of_many_who_ask_one_asks_the_database(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    asked = []

    def counted() -> Database:
        asked.append(1)
        return database

    clock = Clock()
    keyring = Keyring({}, Limits(), counted, clock)
    for times in (1, 1, 2):
        await asyncio.gather(*(keyring.find(made.value) for _ in range(50)))
        assert len(asked) == times
        clock.at += FRESH / 2


async def test_guessing_costs_the_database_a_bounded_number_of_questions(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    clock = Clock()
    keyring = ring(database, clock)
    await keyring.find(made.value)
    for _ in range(MOST_UNKNOWN - 1):
        with pytest.raises(UnauthorizedError):
            await keyring.find(make_key().value)
    with pytest.raises(LimitError):
        await keyring.find(make_key().value)
    keyring.forget()
    assert await keyring.find(made.value)  # who is known is not kept waiting
    clock.at += 1.0
    with pytest.raises(UnauthorizedError):
        await keyring.find(make_key().value)


async def test_while_the_database_is_away_known_keys_are_good_for_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    async with open_database(f"sqlite:///{tmp_path / 'nautilus.db'}") as database:
        made = await store.create(database, WANTED, "a test", time.time())
        keyring = ring(database, clock)
        known = await keyring.find(made.value)
        async with database.begin() as connection:
            await connection.execute(sa.text("ALTER TABLE keys RENAME TO away"))
        clock.at += FRESH
        assert await keyring.find(made.value) == known
        with pytest.raises(StorageError):
            await keyring.find(make_key().value)
        clock.at += STALE
        with pytest.raises(StorageError):
            await keyring.find(made.value)


async def test_use_is_written_later(database: Database) -> None:
    made = await store.create(database, WANTED, "a test", time.time())
    keyring = ring(database, Clock())
    await keyring.find(made.value)
    assert (await store.by_id(database, made.key.id)) == made.key
    before = time.time()
    await keyring.note_use()
    written = await store.by_id(database, made.key.id)
    assert written is not None
    assert written.used_at is not None
    assert before - 60 < written.used_at <= before


async def test_keys_of_the_settings_need_no_database() -> None:
    def closed() -> Database:
        raise NotReadyError

    value = "a-key-of-the-operator"
    fixed = Key("key_fixed", "acme", "ci", "", digest(value), ("stream",), {})
    keyring = Keyring({fixed.digest: fixed}, Limits(streams=1), closed)
    expected = Caller("acme", "key_fixed", frozenset({"stream"}), Limits(streams=1))
    assert await keyring.find(value) == await keyring.find_id("key_fixed") == expected
    with pytest.raises(NotReadyError):
        await keyring.find(make_key().value)
