"""`nautilus db`."""

import asyncio
import base64
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nautilus.cli import app
from nautilus.storage.blobs import open_blobs
from nautilus.storage.database import SCHEMA
from tests.storage.postgres import Postgres

KEY = "k:" + base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_STORAGE__DATA_DIR", str(tmp_path / "data"))


def nautilus(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["db", *words])
    return done.exit_code, done.output


def test_a_new_database_is_behind_until_it_is_upgraded() -> None:
    code, output = nautilus("status")
    assert (code, "schema none, needed" in output, "behind" in output) == (1, True, True)
    assert nautilus("upgrade") == (0, f"✓ schema {SCHEMA}, was none\n")
    assert nautilus("upgrade") == (0, f"✓ schema {SCHEMA}, as before\n")
    code, output = nautilus("status")
    assert (code, "up to date" in output, "nautilus.db" in output) == (0, True, True)


def test_postgres_is_upgraded_by_the_same_command(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_STORAGE__DATABASE_URL", postgres.new_database())
    assert nautilus("status")[0] == 1
    assert nautilus("upgrade") == (0, f"✓ schema {SCHEMA}, was none\n")
    assert nautilus("status")[0] == 0


def test_a_database_that_does_not_answer_is_a_clear_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_STORAGE__DATABASE_URL", "postgresql://nautilus:secret@127.0.0.1:1/x")
    code, output = nautilus("status")
    assert (code, "database cannot be used" in output, "secret" in output) == (1, True, False)


async def put_plain(folder: Path) -> None:
    await open_blobs(str(folder)).put_bytes("t/result/1", b"words")


def test_resealing_encrypts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(put_plain(tmp_path / "data" / "blobs"))
    code, output = nautilus("reseal")
    assert (code, "NAUTILUS_STORAGE__ENCRYPTION_KEYS" in output) == (1, True)
    monkeypatch.setenv("NAUTILUS_STORAGE__ENCRYPTION_KEYS", KEY)
    assert nautilus("reseal") == (0, "✓ 1 of 1 blobs sealed anew\n")
    assert b"words" not in (tmp_path / "data" / "blobs" / "t" / "result" / "1").read_bytes()
