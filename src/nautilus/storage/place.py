"""Where an installation's things lie: settings in, an open database and an open store out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy.engine import make_url

from nautilus.errors import ConfigurationError
from nautilus.storage.blobs import Blobs, S3Options, open_blobs
from nautilus.storage.database import Database, open_database
from nautilus.storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Everything that outlives the server."""

    database: Database
    blobs: Blobs


@asynccontextmanager
async def open_place(settings: StorageSettings) -> AsyncIterator[Place]:
    """Open the database and the store. Raises ConfigurationError, StorageError."""
    blobs = blobs_of(settings)
    async with open_database(database_url(settings)) as database:
        yield Place(database, blobs)


def database_url(settings: StorageSettings) -> str:
    """Return the database's address: the given one, or a file in the data folder."""
    return settings.database_url.get_secret_value() or f"sqlite:///{settings.data_dir.expanduser() / 'nautilus.db'}"


def workflow_url(settings: StorageSettings) -> str:
    """Return where DBOS keeps its own tables: a file beside SQLite's, a schema of its own in PostgreSQL."""
    url = make_url(database_url(settings))
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").expanduser()
        return f"sqlite:///{path.with_name(path.stem + '-workflows.db')}"
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def blobs_of(settings: StorageSettings) -> Blobs:
    """Return the store, sealed if there are encryption keys. Raises ConfigurationError."""
    s3 = S3Options(
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key_id.get_secret_value(),
        settings.s3_secret_access_key.get_secret_value(),
    )
    stored = open_blobs(settings.blobs_url or str(settings.data_dir / "blobs"), s3)
    keys = _keys(settings.encryption_keys, settings.encryption_keys_file)
    if not keys:
        return stored
    from nautilus.storage.sealed import SealedBlobs, read_master_keys

    return SealedBlobs(stored, read_master_keys(keys))


def _keys(given: SecretStr, file: Path | None) -> str:
    if file is None:
        return given.get_secret_value()
    if given.get_secret_value():
        raise ConfigurationError("Set NAUTILUS_STORAGE__ENCRYPTION_KEYS or …_KEYS_FILE, not both.")
    try:
        return file.expanduser().read_text(encoding="utf-8") or "#"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"NAUTILUS_STORAGE__ENCRYPTION_KEYS_FILE cannot be read: {error}") from error
