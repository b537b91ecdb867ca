"""A database for rows of jobs: SQLite in a file, or what NAUTILUS_TEST_DATABASE_URL names."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from nautilus.storage.tables import metadata


class PlainDatabase:
    """An engine whose transactions write from their beginning on, so that SQLite makes them wait for each other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_async_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine.sync_engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
            event.listen(self.engine.sync_engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.begin() as connection:
            yield connection


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[PlainDatabase]:
    url = os.environ.get("NAUTILUS_TEST_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path / 'rows.db'}")
    database = PlainDatabase(url)
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    yield database
    await database.engine.dispose()
