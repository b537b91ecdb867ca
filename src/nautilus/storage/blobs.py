"""Blobs: bytes by name, in a local folder or in an S3-compatible store.

A name is `tenant/kind/id`, or longer. A blob is there as a whole or not at all, and is never changed.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from nautilus.errors import ConfigurationError, StorageError, first_error
from nautilus.storage.upload import Upload, put_or_take_back

CHUNK: Final = 1024**2
"""Bytes that are read at once."""

AT_ONCE: Final = 1000
"""Blobs that an S3 store deletes at once."""
PUTS_AT_ONCE: Final = 32
"""Blobs on their way to an S3 store at once, of those that are put together."""

_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){2,5}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,5}")
_STAGED: Final = re.compile(r".+#\d+")
"""How the local store names a file that is being written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob as its store lists it."""

    key: str
    bytes: int
    at: float
    """When it was written, in seconds since 1970, by the store's clock."""


class Blobs(Protocol):
    """A store. Every method raises StorageError where it is out of reach or full, and ValueError for a wrong key."""

    async def put(self, key: str, chunks: AsyncIterable[bytes], /) -> int:
        """Store what `chunks` yields and return how many bytes that was. What `chunks` raises leaves nothing behind."""
        ...

    async def put_bytes(self, key: str, data: bytes, /) -> None:
        """Store `data`."""
        ...

    async def put_many(self, blobs: Mapping[str, bytes], /) -> None:
        """Store many small blobs by name; what fails leaves some of them stored."""
        ...

    def read(self, key: str, /) -> AsyncGenerator[bytes]:
        """Yield a blob in pieces. Raises FileNotFoundError where there is none."""
        ...

    async def read_bytes(self, key: str, /) -> bytes:
        """Return a blob. Raises FileNotFoundError where there is none."""
        ...

    def file(self, key: str, /) -> AbstractAsyncContextManager[BinaryIO]:
        """Give a blob as a real file that can be read and seeked. Raises FileNotFoundError where there is none."""
        ...

    async def delete(self, key: str, /) -> None:
        """Delete a blob; one that is gone already is no failure."""
        ...

    async def delete_many(self, keys: Sequence[str], /) -> None:
        """Delete blobs; those that are gone already are no failure."""
        ...

    async def delete_all(self, prefix: str, /) -> int:
        """Delete every blob below `prefix`, whole parts of names, and return how many there were."""
        ...

    async def presigned_put(self, key: str, seconds: int, /) -> str | None:
        """Return an address that takes the blob by HTTP PUT for so long, or None where there is no such thing."""
        ...

    def listed(self, prefix: str = "", /) -> AsyncIterator[Stored]:
        """Yield every blob below `prefix`, in no order."""
        ...

    async def discard_unfinished(self, before: float, /) -> int:
        """Delete what a process that was killed left half-written before that time; return how many there were."""
        ...


@dataclass(frozen=True, slots=True)
class S3Options:
    """How an S3-compatible store is reached; what is empty comes from AWS's own variables and defaults."""

    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


AWS: Final = S3Options()


def open_blobs(url: str, s3: S3Options = AWS) -> "StoredBlobs":
    """Return the store at `s3://bucket/prefix`, `file:///folder` or a folder's path. Raises ConfigurationError."""
    if url.startswith("s3://"):
        return StoredBlobs(_s3(url, s3), None)
    if "://" in url and not url.startswith("file:///"):
        raise ConfigurationError("NAUTILUS_STORAGE__BLOBS_URL must be a folder or s3://bucket/prefix.")
    folder = Path(url.removeprefix("file://")).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"The folder for blobs, {folder}, cannot be made: {error.strerror}.") from error
    return StoredBlobs(LocalStore(folder, automatic_cleanup=True), folder)


def _s3(url: str, options: S3Options) -> S3Store:
    given = {
        "endpoint": options.endpoint,
        "region": options.region,
        "access_key_id": options.access_key_id,
        "secret_access_key": options.secret_access_key,
    }
    try:
        return S3Store.from_url(
            url,
            config={key: value for key, value in given.items() if value},  # type: ignore[arg-type] # names as above
            client_options={"allow_http": options.endpoint.startswith("http://"), "timeout": timedelta(minutes=2)},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"NAUTILUS_STORAGE__BLOBS_URL: {error}") from error


class StoredBlobs:
    """Blobs as they are, in any store that `obstore` speaks to."""

    def __init__(self, store: LocalStore | S3Store, folder: Path | None) -> None:
        self._store = store
        self._folder = folder
        """Where the files are, if they are files."""
        self._hand = ThreadPoolExecutor(1, "blobs")
        """Handles many files in one go: to wait for each of them would take longer than the disk does."""

    def __repr__(self) -> str:
        return f"<StoredBlobs {self._folder or self._store}>"

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Store what `chunks` yields, in parts of 5 MiB; what is not finished is taken back."""
        upload = Upload(chunks)
        with _storage_errors(self):
            if isinstance(self._store, LocalStore):
                await obstore.put_async(self._store, checked(key), upload.chunks())
            else:
                await put_or_take_back(self._store, checked(key), upload)
        return upload.count

    async def put_bytes(self, key: str, data: bytes) -> None:
        """Store `data`."""
        with _storage_errors(self):
            await obstore.put_async(self._store, checked(key), data)

    async def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Store many small blobs: files one after the other in a thread, others a few at a time."""
        items = [(checked(key), data) for key, data in blobs.items()]
        if isinstance(self._store, LocalStore):
            await asyncio.get_running_loop().run_in_executor(self._hand, self._write, items)
            return
        waiting = iter(items)

        async def work() -> None:
            for key, data in waiting:
                await self.put_bytes(key, data)

        with first_error():
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(PUTS_AT_ONCE, len(items))):
                    tasks.create_task(work())

    def _write(self, items: Sequence[tuple[str, bytes]]) -> None:
        with _storage_errors(self):
            for key, data in items:
                obstore.put(self._store, key, data)

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        """Yield a blob in pieces."""
        with _storage_errors(self):
            found = await obstore.get_async(self._store, checked(key))
            async for chunk in found.stream(CHUNK):
                yield bytes(chunk)

    async def read_bytes(self, key: str) -> bytes:
        """Return a blob."""
        with _storage_errors(self):
            found = await obstore.get_async(self._store, checked(key))
            return bytes(await found.bytes_async())

    @asynccontextmanager
    async def file(self, key: str) -> AsyncIterator[BinaryIO]:
        """Give the file itself where there is one, and a copy without a name, gone when closed, where not."""
        if self._folder is None:
            async with temporary_copy(self.read(key)) as copy:
                yield copy
            return
        with (self._folder / checked(key)).open("rb") as file:
            yield file

    async def delete(self, key: str) -> None:
        """Delete a blob."""
        with _storage_errors(self):
            try:
                await obstore.delete_async(self._store, checked(key))
            except (NotFoundError, FileNotFoundError):
                return

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete blobs: files one after the other in a thread, others by the thousand."""
        keys = [checked(key) for key in keys]
        if isinstance(self._store, LocalStore):
            await asyncio.get_running_loop().run_in_executor(self._hand, self._remove, keys)
            return
        with _storage_errors(self):
            for start in range(0, len(keys), AT_ONCE):
                await obstore.delete_async(self._store, keys[start : start + AT_ONCE])

    def _remove(self, keys: Sequence[str]) -> None:
        with _storage_errors(self):
            for key in keys:
                with suppress(NotFoundError, FileNotFoundError):
                    obstore.delete(self._store, key)

    async def delete_all(self, prefix: str) -> int:
        """Delete every blob below `prefix`, a listing at a time."""
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"not a prefix of blobs' names: {prefix!r}")
        keys = [stored.key async for stored in self.listed(prefix)]
        await self.delete_many(keys)
        return len(keys)

    async def presigned_put(self, key: str, seconds: int) -> str | None:
        """Return an address for one PUT to an S3 store; a folder has none."""
        if isinstance(self._store, LocalStore):
            return None
        with _storage_errors(self):
            return await obstore.sign_async(self._store, "PUT", checked(key), timedelta(seconds=seconds))

    async def listed(self, prefix: str = "") -> AsyncIterator[Stored]:
        """Yield every blob below `prefix`."""
        with _storage_errors(self):
            async for batch in obstore.list(self._store, prefix or None, chunk_size=500):
                for entry in batch:
                    if _KEY.fullmatch(entry["path"]):  # other files are not ours
                        yield Stored(entry["path"], entry["size"], entry["last_modified"].timestamp())

    async def discard_unfinished(self, before: float) -> int:
        """Delete half-written files; an S3 store does so by a lifecycle rule of the bucket."""
        if self._folder is None:
            return 0
        count = 0
        for folder, _, names in os.walk(self._folder):
            count += _discard([Path(folder, name) for name in names if _STAGED.fullmatch(name)], before)
            await asyncio.sleep(0)  # a big tree holds nobody up
        return count


def _discard(paths: list[Path], before: float) -> int:
    """Delete what was last written before that time; return how many that was."""
    count = 0
    for path in paths:
        with suppress(FileNotFoundError):  # it was finished just now
            if path.stat().st_mtime < before:
                path.unlink()
                count += 1
    return count


async def put_hashed(blobs: Blobs, key: str, chunks: AsyncIterable[bytes]) -> tuple[int, str]:
    """Store what `chunks` yields and return how many bytes that was, and their SHA-256 in hexadecimal."""
    digest = hashlib.sha256()

    async def passed_on() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            digest.update(chunk)
            yield chunk

    return await blobs.put(key, passed_on()), digest.hexdigest()


async def hashed(blobs: Blobs, key: str) -> tuple[int, str]:
    """Return how many bytes a blob has, and their SHA-256 in hexadecimal. Raises FileNotFoundError."""
    digest, size = hashlib.sha256(), 0
    async with aclosing(blobs.read(key)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def checked(key: str) -> str:
    """Return `key`. Raises ValueError for one that is not `tenant/kind/id`, of letters, digits, `.`, `_` and `-`."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob's name: {key!r}")
    return key


@asynccontextmanager
async def temporary_copy(chunks: AsyncGenerator[bytes]) -> AsyncIterator[BinaryIO]:
    """Give a file that holds what `chunks` yields and has no name, so that nothing of it outlives the process."""
    with tempfile.TemporaryFile() as copy:
        try:
            async for chunk in chunks:
                copy.write(chunk)
            copy.seek(0)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"No room for a copy of a blob in {tempfile.gettempdir()}: {error.strerror}.") from error
        finally:
            await chunks.aclose()
        yield copy


@contextmanager
def _storage_errors(blobs: StoredBlobs) -> Iterator[None]:
    """Tell a store that is down, full or closed to us from a blob that is not there."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise StorageError(f"{blobs} cannot be used: NoSuchBucket") from error
        raise FileNotFoundError("There is no such blob.") from error
    except (BaseError, PermissionError) as error:
        why = str(error).partition("\n\nDebug source")[0]  # the library's own view of itself follows
        raise StorageError(f"{blobs} cannot be used: {why}") from error
