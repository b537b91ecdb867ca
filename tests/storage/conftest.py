"""A database of each kind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nautilus.storage.blobs import Blobs, open_blobs
from nautilus.storage.database import Database, open_database
from tests.storage.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nautilus.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database that is up to date."""
    async with open_database(database_url, check=False) as opened:
        await opened.upgrade()
        yield opened


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """Blobs in a folder."""
    return open_blobs(str(tmp_path / "blobs"))
