"""What `nautilus doctor` says of keys, Redis and clocks."""

import json
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from nautilus.access.settings import AccessSettings, LimitSettings
from nautilus.access.store import Wanted, create
from nautilus.assembly import assemble
from nautilus.cli import surroundings, trials
from nautilus.cli.findings import Finding
from nautilus.settings import Settings
from nautilus.storage.database import open_database
from nautilus.storage.place import database_url
from nautilus.storage.settings import StorageSettings
from tests.access.redis import RedisServer
from tests.cli.test_commands import elsewhere, run
from tests.conftest import fake_engine
from tests.storage.postgres import Postgres

__all__ = ["elsewhere"]  # a fixture for every test here
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where it would listen


async def found(settings: Settings, check: str) -> list[Finding]:
    async with assemble(settings, fake_engine) as core:
        return [finding async for finding in getattr(surroundings, check)(core)]


@pytest.mark.parametrize(
    ("own", "state"),
    [
        ({}, "ok"),
        ({"host": EVERYWHERE}, "problem"),
        ({"host": EVERYWHERE, "access": AccessSettings(open=True)}, "warning"),
        ({"access": AccessSettings(required=True)}, "warning"),
        ({"access": AccessSettings(open=True, required=True)}, "problem"),
        ({"access": AccessSettings(keys=SecretStr(json.dumps([{"key": "k" * 20, "name": "a"}])))}, "ok"),
    ],
    ids=["loopback", "no key", "open", "no key on the loopback", "both", "fixed"],
)
async def test_who_may_ask_is_told(settings: Settings, tmp_path: Path, own: dict[str, object], state: str) -> None:
    here = settings.model_copy(update={"storage": StorageSettings(data_dir=tmp_path)} | own)
    (finding,) = await found(here, "keys")
    assert (finding.subject, finding.state) == ("keys", state)


def test_what_is_no_list_of_keys_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_ACCESS__KEYS", "nonsense")
    result = run("doctor", "--json")
    findings = {entry["subject"]: Finding(**entry) for entry in json.loads(result.stdout)}
    assert (result.exit_code, findings["start"].state) == (1, "problem")
    assert "NAUTILUS_ACCESS__KEYS must be" in findings["start"].said


async def test_a_key_that_ends_soon_is_named(settings: Settings, tmp_path: Path) -> None:
    own = {"storage": StorageSettings(data_dir=tmp_path), "access": AccessSettings(required=True)}
    here, now = settings.model_copy(update=own), time.time()
    async with open_database(database_url(here.storage)) as database:
        for name, days in (("the shop", 3), ("the office", 300), ("gone", -1)):
            await create(database, Wanted("default", name, ("transcribe",), {}, now + 86400 * days), "test", now)
    keys, ending = await found(here, "keys")
    assert keys.said == "asked of everybody; 2 are valid"
    assert (ending.state, ending.said.startswith("the shop (key_")) == ("warning", True)
    assert "office" not in ending.said


async def test_redis_is_asked_where_there_is_one(settings: Settings, tmp_path: Path) -> None:
    assert await found(settings, "redis") == []
    server = RedisServer(tmp_path)
    server.start()
    try:
        here = settings.model_copy(update={"limits": LimitSettings(redis_url=SecretStr(server.url))})
        (finding,) = await found(here, "redis")
    finally:
        server.stop()
    assert (finding.subject, finding.state) == ("Redis", "ok")
    assert "clocks differ by 0.0 s" in finding.said


@pytest.mark.parametrize(("down", "state"), [("open", "warning"), ("closed", "problem")])
async def test_a_redis_that_is_away_is_told(settings: Settings, down: str, state: str) -> None:
    limits = LimitSettings(redis_url=SecretStr("redis://127.0.0.1:9/0"), redis_down=down)  # type: ignore[arg-type]
    async with assemble(settings, fake_engine) as core:  # which would ask it itself
        object.__setattr__(core, "settings", settings.model_copy(update={"limits": limits}))
        (finding,) = [finding async for finding in surroundings.redis(core)]
    assert finding.state == state


async def test_clocks_are_compared_with_postgresql(settings: Settings, postgres: Postgres) -> None:
    assert await found(settings, "database_clock") == []
    url = SecretStr(postgres.new_database())
    (finding,) = await found(
        settings.model_copy(update={"storage": StorageSettings(database_url=url)}), "database_clock"
    )
    assert finding.state == "ok"


@pytest.mark.parametrize(("gap", "state"), [(0.5, "ok"), (-1.9, "ok"), (3, "warning"), (-600, "warning")])
def test_clocks_may_differ_a_little(gap: float, state: str) -> None:
    assert surroundings._clock("Redis", "7 answers", gap).state == state


async def test_it_is_told_whether_decoders_are_sealed(settings: Settings) -> None:
    async with assemble(settings, fake_engine) as core:
        findings = {finding.subject: finding async for finding in trials.decoder(core)}
        assert findings["sandbox"].state == "ok"
        core.sandbox._nursery.sealed = False
        findings = {finding.subject: finding async for finding in trials.decoder(core)}
    assert findings["decoder"].state == "ok"
    assert "sandbox" in findings
