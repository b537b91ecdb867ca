"""The database: SQLite in a file by default, PostgreSQL by its address.

    async with open_database(url) as database, database.begin() as connection:
        await connection.execute(...)

SQLite is brought up to date when it is opened; PostgreSQL, which several servers share, only by `nautilus db upgrade`.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from nautilus.errors import ConfigurationError, StorageError

SCHEMA: Final = "0002"
"""The revision that this code needs: the newest of `migrations/versions`, whose names sort by age."""

BUSY_SECONDS: Final = 60
"""How long a writer waits for the others. Transactions are short, but SQLite's waiting is not fair."""

CONNECT_SECONDS: Final = 10
CONNECTIONS: Final = 8
"""Transactions at once; one more waits. Each is a thread with SQLite and a process of the server with PostgreSQL."""

_READING: Final = "nautilus_reading"


class State(Enum):
    """How a database stands to this code."""

    CURRENT = "up to date"
    BEHIND = "behind"
    AHEAD = "ahead"


class Database:
    """Owns the connections to one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{_READING: True})

    def __repr__(self) -> str:
        return f"<Database {self.address}, {self._engine.pool.status()}>"

    @property
    def address(self) -> str:
        """Where it is, without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file, which has one writer at a time."""
        return self._engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction that may write; it is committed when the block ends well.

        With SQLite it waits for its turn here and nowhere later. Raises StorageError where the database is out of
        reach or full; other failures, such as `IntegrityError`, are SQLAlchemy's own.
        """
        with _storage_errors():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection that only reads. With SQLite it waits for no writer, and none for it."""
        with _storage_errors():
            async with self._reading.begin() as connection:
                yield connection

    async def revision(self) -> str | None:
        """Return the revision of the schema, or None where there is none yet. Raises StorageError."""
        async with self.reading() as connection:
            return await connection.run_sync(_revision)

    async def state(self) -> State:
        """Return how the schema stands to this code. Raises StorageError."""
        return _state(await self.revision())

    async def upgrade(self) -> None:
        """Bring the schema up to date, in one transaction; of several who try, one does it. Raises ConfigurationError.

        Raises StorageError too.
        """
        async with self.begin() as connection:
            await connection.run_sync(_upgrade)


@asynccontextmanager
async def open_database(url: str, *, check: bool = True) -> AsyncIterator[Database]:
    """Give the database at `sqlite:////path/to/file` or `postgresql://user:password@host/name`.

    With `check`, SQLite is brought up to date, and PostgreSQL must be. Raises ConfigurationError, StorageError.
    """
    address = _address(url)
    engine = _sqlite(address) if address.get_backend_name() == "sqlite" else _postgresql(address)
    database = Database(engine)
    try:
        if check:
            await _check(database)
        yield database
    finally:
        await engine.dispose()


async def _check(database: Database) -> None:
    state = await database.state()
    if state is State.BEHIND and database.is_sqlite:
        await database.upgrade()
    elif state is State.BEHIND:
        raise ConfigurationError("The database's schema is behind this version: run `nautilus db upgrade`.")
    elif state is State.AHEAD:
        raise _ahead(await database.revision())


def _ahead(revision: str | None) -> ConfigurationError:
    return ConfigurationError(
        f"The database was written by a newer version (schema {revision}, this one knows {SCHEMA}): update Nautilus, "
        "or restore a back-up from before."
    )


def _state(revision: str | None) -> State:
    if revision == SCHEMA:
        return State.CURRENT
    return State.BEHIND if revision is None or revision < SCHEMA else State.AHEAD


def _revision(connection: Connection) -> str | None:
    """Read what Alembic wrote, without Alembic."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT max(version_num) FROM alembic_version").scalar()


def _upgrade(connection: Connection) -> None:
    """Run what is missing, behind whoever does the same: SQLite's writers wait anyway, PostgreSQL's for a lock."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6283185307)")
    revision = _revision(connection)
    state = _state(revision)
    if state is State.AHEAD:
        raise _ahead(revision)
    if state is State.BEHIND:
        from nautilus.storage.migrations import upgrade

        upgrade(connection)


def _address(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise _wrong_url() from error
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    name = address.drivername.partition("+")[0]
    if name not in drivers or (name == "sqlite" and not (address.database or "").strip(":").removeprefix("memory")):
        raise _wrong_url()
    return address.set(drivername=drivers[name])


def _wrong_url() -> ConfigurationError:
    return ConfigurationError(
        "NAUTILUS_STORAGE__DATABASE_URL must be sqlite:////path/to/file or postgresql://user:password@host/name."
    )


def _postgresql(address: URL) -> AsyncEngine:
    return create_async_engine(
        address,
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        pool_pre_ping=True,  # a server that was restarted costs nobody a failure
        connect_args={"connect_timeout": CONNECT_SECONDS},
    )


def _sqlite(address: URL) -> AsyncEngine:
    path = Path(address.database or "").expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise ConfigurationError(f"The database {path} cannot be made: {error.strerror}.") from error
    engine = create_async_engine(
        address.set(database=str(path)),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        connect_args={"timeout": BUSY_SECONDS},
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: object) -> None:
    """Set up each connection: we begin transactions ourselves, and a commit is on the disk when it returns."""
    del record
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_SECONDS * 1000}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Take the right to write at once: a transaction that reads first and writes later might find itself refused."""
    reading = connection.get_execution_options().get(_READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Tell a database that is down, full, busy or broken from values that it refuses."""
    try:
        yield
    except NoConnectionError as error:
        raise StorageError(f"All {CONNECTIONS} connections to the database were busy for {BUSY_SECONDS} s.") from error
    except (OperationalError, InterfaceError) as error:
        raise StorageError(f"The database cannot be used: {error.orig}.") from error
    except DBAPIError as error:
        if error.connection_invalidated or type(error) is DatabaseError:
            raise StorageError(f"The database cannot be used: {error.orig}.") from error
        raise
    except SQLAlchemyError:
        raise
    except OSError as error:
        raise StorageError(f"The database cannot be reached: {error}.") from error
