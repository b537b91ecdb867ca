"""What operators are told of usage and of webhooks that were given up, from the database."""

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nautilus.jobs.deliveries import claim, enqueue, record
from nautilus.jobs.webhook import Dead
from nautilus.storage.database import open_database
from nautilus.storage.usage import Use, open_usage
from tests.cli.test_commands import elsewhere, run
from tests.jobs.rows import notice

__all__ = ["elsewhere"]  # a fixture for every test here


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/nautilus.db"
    monkeypatch.setenv("NAUTILUS_STORAGE__DATABASE_URL", url)
    return url


async def use(url: str, *uses: Use) -> None:
    async with open_database(url) as database, open_usage(database) as usage:
        for one in uses:
            usage.add(one)


async def give_up(url: str) -> str:
    now = time.time()
    async with open_database(url) as database, database.begin() as connection:
        letter = notice("https://a.example/hooks")
        await enqueue(connection, letter, now)
        (delivery,) = await claim(connection, [letter.id], now, now + 60)
        await record(connection, delivery, Dead("The receiver answered 410."), now)
        return letter.id


def a_use(tenant: str, seconds: float, at: float, status: int = 200) -> Use:
    return Use("req_1", at, tenant, None, "request", "parakeet", seconds, 0.1, status)


def test_usage_is_a_table_by_day_and_tenant(database: str) -> None:
    day = datetime(2026, 2, 3, 12, tzinfo=UTC).timestamp()
    asyncio.run(use(database, a_use("ours", 7200, day), a_use("ours", 30, day, 400), a_use("theirs", 5, day)))
    table = run("usage", "--since", "2026-02-01", "--until", "2026-02-28").stdout
    lines = [line.split() for line in table.splitlines()]
    assert ["2026-02-03", "ours", "parakeet", "2", "1", "2.01", "h"] in lines
    assert ["2026-02-03", "theirs", "parakeet", "1", "0", "5.0", "s"] in lines
    assert ["all", "3", "1", "2.01", "h"] in lines
    assert "theirs" not in run("usage", "--since", "2026-02-01", "--until", "2026-02-28", "--tenant", "ours").stdout


def test_usage_is_json_for_programs(database: str) -> None:
    asyncio.run(use(database, a_use("ours", 5, time.time())))
    (row,) = json.loads(run("usage", "--json").stdout)["data"]
    assert (row["tenant"], row["requests"], row["seconds"]) == ("ours", 1, 5.0)
    assert json.loads(run("usage", "--json", "--until", "2001-01-01").stdout)["data"] == []


def test_days_in_the_wrong_order_are_told() -> None:
    result = run("usage", "--since", "2026-02-02", "--until", "2026-02-01")
    assert result.exit_code == 1
    assert "name the earlier day first" in result.stderr


def test_dead_letters_are_listed_and_sent_again(database: str) -> None:
    letter = asyncio.run(give_up(database))
    listed = run("webhooks", "dead").stdout
    assert letter in listed
    assert "answered 410" in listed
    assert run("webhooks", "redeliver", letter).exit_code == 0
    assert letter not in run("webhooks", "dead").stdout
    again = run("webhooks", "redeliver", letter)
    assert (again.exit_code, "on its way already" in again.stderr) == (1, True)
