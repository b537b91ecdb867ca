"""What a database promises, SQLite and PostgreSQL alike."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from nautilus.errors import ConfigurationError, StorageError
from nautilus.storage.database import Database, open_database
from nautilus.storage.tables import job_files, jobs, servers
from tests.storage.postgres import Postgres


def server(name: str) -> dict[str, object]:
    return {"id": name, "pid": 1, "place": "here", "version": "1", "seen_at": 1.0}


async def count(database: Database) -> int:
    async with database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(servers))).scalar_one())


async def test_what_was_committed_is_there(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(servers), [server("a"), server("b")])
    assert await count(database) == 2


async def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(servers), [server("a")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(database) == 0


async def test_rows_that_are_refused_are_the_callers_business(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(servers), [server("a")])
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(insert(servers), [server("a")])
    assert await count(database) == 1


async def test_the_files_of_a_job_need_a_job(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await connection.execute(
                insert(job_files), [{"job": "none", "number": 1, "name": "a", "status": "queued", "seconds_done": 0}]
            )


async def test_json_comes_back_as_it_was(database: Database) -> None:
    value = {"text": "naïve ☂", "list": [1, 2.5, None, True]}
    row = {"id": "j", "tenant": "t", "status": "queued", "priority": 2, "request": value, "meta": {}, "files": 1}
    async with database.begin() as connection:
        await connection.execute(insert(jobs), [{**row, "created_at": 1.5}])
        assert (await connection.execute(select(jobs.c.request, jobs.c.created_at))).one() == (value, 1.5)


async def test_many_who_read_and_write_the_same_row_lose_nothing(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(servers), [server("a")])

    async def add() -> None:
        async with database.begin() as connection:
            wanted = select(servers.c.seen_at).with_for_update()
            seen = (await connection.execute(wanted)).scalar_one()
            await connection.execute(update(servers).values(seen_at=seen + 1))

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(add())
    async with database.reading() as connection:
        assert (await connection.execute(select(servers.c.seen_at))).scalar_one() == 51.0


async def test_who_reads_waits_for_no_writer(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(servers), [server("a")])
        async with asyncio.timeout(10):
            assert await count(database) == 0
    assert await count(database) == 1


async def test_callers_who_leave_in_the_middle_hold_nobody_up(database: Database) -> None:
    async def add(name: str) -> None:
        async with database.begin() as connection:
            await connection.execute(insert(servers), [server(name)])
            await connection.execute(select(func.count()).select_from(servers))

    async with asyncio.TaskGroup() as group:
        for number in range(100):
            task = group.create_task(add(f"left-{number}"))
            asyncio.get_running_loop().call_later(number * 0.0005, task.cancel)
    async with asyncio.timeout(20):
        for number in range(20):
            await add(f"stayed-{number}")
    async with database.reading() as connection:
        stayed = select(func.count()).where(servers.c.id.startswith("stayed"))
        assert (await connection.execute(stayed)).scalar_one() == 20


async def test_it_tells_where_it_is_but_no_password(tmp_path: Path) -> None:
    async with open_database("postgresql://me:secret@127.0.0.1:1/x", check=False) as database:
        assert "secret" not in repr(database)
        assert "127.0.0.1" in repr(database)
    async with open_database(f"sqlite:///{tmp_path / 'x.db'}") as database:
        assert (database.is_sqlite, str(tmp_path) in repr(database)) == (True, True)


@pytest.mark.parametrize("url", ["", "mysql://host/x", "sqlite://", "sqlite:///:memory:", "nautilus.db"])
async def test_an_address_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NAUTILUS_STORAGE__DATABASE_URL"):
        async with open_database(url):
            pass


async def test_a_database_that_does_not_answer_is_named() -> None:
    with pytest.raises(StorageError, match="database"):
        async with open_database("postgresql://nautilus@127.0.0.1:1/x"):
            pass


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        async with open_database(f"sqlite:///{tmp_path / 'x.db'}"):
            pass


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        async with open_database(f"sqlite:///{tmp_path / 'file' / 'x.db'}"):
            pass


async def test_a_postgres_that_crashes_between_two_transactions_costs_no_failure(postgres: Postgres) -> None:
    async with open_database(postgres.new_database(), check=False) as database:
        await database.upgrade()
        async with database.begin() as connection:
            await connection.execute(insert(servers), [server("a")])
        postgres.restart()
        async with database.begin() as connection:
            await connection.execute(insert(servers), [server("b")])
        assert await count(database) == 2


async def test_a_postgres_that_crashes_in_a_transaction_is_a_storage_error(postgres: Postgres) -> None:
    async with open_database(postgres.new_database(), check=False) as database:
        await database.upgrade()

        async def write() -> None:
            async with database.begin() as connection:
                await connection.execute(insert(servers), [server("a")])
                postgres.restart()
                await connection.execute(insert(servers), [server("b")])

        with pytest.raises(StorageError):
            await write()
        assert await count(database) == 0


WRITER = """
import asyncio, sys
from sqlalchemy import insert, select, func
from nautilus.storage.database import open_database
from nautilus.storage.tables import servers

async def main(url, name):
    async with open_database(url) as database, asyncio.TaskGroup() as group:
        for writer in range(4):
            group.create_task(write(database, f"{name}-{writer}"))

async def write(database, name):
    for number in range(50):
        async with database.begin() as connection:
            await connection.execute(select(func.count()).select_from(servers))
            await connection.execute(
                insert(servers), [{"id": f"{name}-{number}", "pid": 1, "place": "h", "version": "1", "seen_at": 0.0}]
            )

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_that_make_and_write_one_file_at_once_never_find_it_locked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, name, stderr=asyncio.subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    said = [(await process.communicate())[1].decode() for process in processes]
    assert said == ["", "", ""]
    async with open_database(url) as database:
        assert await count(database) == 3 * 4 * 50


FULL = """
import asyncio, json, resource, signal, sys
from sqlalchemy import insert, select, func
from nautilus.errors import StorageError
from nautilus.storage.database import open_database
from nautilus.storage.tables import servers

async def main(url):
    told, rows = "", 0
    async with open_database(url) as database:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        while not told and rows < 10_000:
            try:
                async with database.begin() as connection:
                    row = {"id": str(rows), "pid": 1, "place": "h" * 10_000, "version": "1", "seen_at": 0.0}
                    await connection.execute(insert(servers), [row])
                rows += 1
            except StorageError as error:
                told = str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        async with database.begin() as connection:
            found = (await connection.execute(select(func.count()).select_from(servers))).scalar_one()
            row = {"id": "after", "pid": 1, "place": "h", "version": "1", "seen_at": 0.0}
            await connection.execute(insert(servers), [row])
    print(json.dumps([told, rows, found]))

asyncio.run(main(sys.argv[1]))
"""


def test_a_full_disk_is_a_storage_error_and_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    done = subprocess.run([sys.executable, "-c", FULL, url], capture_output=True, check=True)
    told, rows, found = json.loads(done.stdout)
    assert "database cannot be used" in told
    assert 0 < rows == found
