"""The schema's history ends where `tables.py` is."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from nautilus.errors import ConfigurationError
from nautilus.jobs.rows import read_job
from nautilus.storage import migrations
from nautilus.storage.database import SCHEMA, Database, State, open_database
from nautilus.storage.tables import jobs, metadata


def test_the_code_needs_the_newest_revision_and_names_sort_by_age() -> None:
    scripts = ScriptDirectory.from_config(migrations.config())
    names = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_heads() == [SCHEMA]
    assert names == sorted(names, reverse=True)


OLD_JOB = {
    "id": "job_1",
    "tenant": "default",
    "status": "queued",
    "priority": 2,
    "request": "[]",
    "meta": "{}",
    "files": 1,
    "files_done": 0,
    "files_failed": 0,
    "seconds_done": 0.0,
    "created_at": 0.0,
    "runs": 0,
}


def _differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


async def test_all_revisions_together_make_the_tables(database: Database) -> None:
    async with database.reading() as connection:
        assert await connection.run_sync(_differences) == []


async def test_upgrading_twice_changes_nothing(database: Database) -> None:
    await database.upgrade()
    assert (await database.revision(), await database.state()) == (SCHEMA, State.CURRENT)


async def test_sqlite_is_brought_up_to_date_when_opened(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'x' / 'y.db'}") as database:
        assert await database.state() is State.CURRENT


async def test_jobs_of_the_first_schema_are_kept(database_url: str) -> None:
    async with open_database(database_url, check=False) as database:
        async with database.begin() as connection:
            await connection.run_sync(lambda one: command.upgrade(migrations.config(one), "0001"))
            old = sa.table("jobs", *(sa.column(name) for name in OLD_JOB))
            await connection.execute(sa.insert(old).values(OLD_JOB | {"request": "[]", "meta": "{}"}))
        assert await database.state() is State.BEHIND
        await database.upgrade()
        async with database.reading() as connection:
            job = read_job((await connection.execute(sa.select(jobs))).one())
        assert (job.id, job.trace) == ("job_1", {})


async def test_an_empty_postgres_is_refused_with_what_to_do(request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").new_database()
    with pytest.raises(ConfigurationError, match="nautilus db upgrade"):
        async with open_database(url):
            pass


async def test_a_database_of_a_newer_version_is_refused(database: Database, database_url: str) -> None:
    async with database.begin() as connection:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="newer version"):
        async with open_database(database_url):
            pass
    with pytest.raises(ConfigurationError, match="newer version"):
        await database.upgrade()


async def test_a_revision_that_fails_leaves_the_schema_as_it_was(database_url: str) -> None:
    async with open_database(database_url, check=False) as database:
        async with database.begin() as connection:
            await connection.exec_driver_sql("CREATE TABLE requests (x INTEGER)")  # in the way of the first revision
        with pytest.raises(Exception, match="requests"):
            await database.upgrade()
        assert await database.revision() is None
        async with database.begin() as connection:
            await connection.exec_driver_sql("DROP TABLE requests")
        await database.upgrade()
        assert await database.state() is State.CURRENT


OPEN = """
import asyncio, sys
from nautilus.storage.database import open_database

async def main(url):
    async with open_database(url):
        print(*sorted({"alembic", "mako", "psycopg", "cryptography", "obstore"} & sys.modules.keys()))

asyncio.run(main(sys.argv[1]))
"""


def test_a_database_that_is_up_to_date_is_opened_without_what_migrates(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    imported = [
        subprocess.run([sys.executable, "-c", OPEN, url], capture_output=True, check=True, text=True).stdout.split()
        for _ in range(2)
    ]
    assert imported == [["alembic", "mako"], []]
