"""Encryption at rest: blobs that only holders of a master key can read.

    NAUTILUS 1 | length, name of the master key | nonce, data key wrapped by it | sealed piece, sealed piece, …

Envelope encryption: each blob has a random data key of its own, wrapped by a master key (AES-256-GCM). The blob's name
is authenticated with it, so that a blob moved to another name cannot be read. The body is the STREAM construction
(Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015) as
the age file format has it: pieces of 64 KiB, each sealed with a nonce of eleven bytes that count and one that marks the
last, so that pieces changed, swapped, repeated or cut off are noticed.
"""

import base64
import binascii
import os
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nautilus.errors import ConfigurationError, StorageError
from nautilus.storage.blobs import Blobs, Stored, checked, temporary_copy
from nautilus.storage.upload import Upload

MAGIC: Final = b"NAUTILUS\x01"
PIECE: Final = 64 * 1024
"""Bytes of a piece before it is sealed."""
TAG: Final = 16
NONCE: Final = 12
KEY: Final = 32
WRAPPED: Final = NONCE + KEY + TAG

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LAST: Final = b"\x01"
_MORE: Final = b"\x00"


@dataclass(frozen=True, slots=True, repr=False)
class MasterKeys:
    """Master keys by name; the first one seals, all of them open."""

    keys: Mapping[str, bytes]
    """32 bytes each; at least one."""

    @property
    def current(self) -> str:
        """The name of the key that seals."""
        return next(iter(self.keys))


def read_master_keys(text: str) -> MasterKeys:
    """Read `name:base64` pairs, separated by commas or lines; `#` begins a comment. Raises ConfigurationError."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    pairs = [pair.strip() for line in lines for pair in line.split(",") if pair.strip()]
    keys: dict[str, bytes] = {}
    for pair in pairs:
        name, _, value = pair.partition(":")
        try:
            key = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not _NAME.fullmatch(name) or len(key) != KEY or name in keys:
            raise ConfigurationError(
                "Encryption keys must be name:base64 with 32 bytes each and names of their own; "
                "`openssl rand -base64 32` makes one."
            )
        keys[name] = key
    if not keys:
        raise ConfigurationError("There is no encryption key where one should be.")
    return MasterKeys(keys)


class SealedBlobs:
    """Blobs of any store, sealed on the way in and opened on the way out."""

    def __init__(self, inner: Blobs, keys: MasterKeys) -> None:
        self._inner = inner
        self._keys = keys

    def __repr__(self) -> str:
        return f"<SealedBlobs in {self._inner}, key '{self._keys.current}'>"

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Seal and store what `chunks` yields; return its bytes before sealing."""
        upload = Upload(chunks)
        await self._inner.put(key, seal(upload.chunks(), checked(key), self._keys))
        return upload.count

    async def put_bytes(self, key: str, data: bytes) -> None:
        """Seal and store `data`."""
        await self._inner.put_bytes(key, await self._sealed(key, data))

    async def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Seal and store many small blobs."""
        await self._inner.put_many({key: await self._sealed(key, data) for key, data in blobs.items()})

    async def _sealed(self, key: str, data: bytes) -> bytes:
        return b"".join([piece async for piece in seal(_once(data), checked(key), self._keys)])

    async def read(self, key: str) -> AsyncGenerator[bytes]:
        """Yield a blob in pieces, each proven genuine. Raises StorageError for one that was changed."""
        async with aclosing(self._inner.read(key)) as sealed, aclosing(unseal(sealed, key, self._keys)) as opened:
            async for piece in opened:
                yield piece

    async def read_bytes(self, key: str) -> bytes:
        """Return a blob. Raises StorageError for one that was changed."""
        return b"".join([piece async for piece in self.read(key)])

    @asynccontextmanager
    async def file(self, key: str) -> AsyncIterator[BinaryIO]:
        """Give an opened copy without a name: it is gone when closed, also if the process is killed."""
        async with temporary_copy(self.read(key)) as copy:
            yield copy

    async def delete(self, key: str) -> None:
        """Delete a blob."""
        await self._inner.delete(key)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete blobs."""
        await self._inner.delete_many(keys)

    async def delete_all(self, prefix: str) -> int:
        """Delete every blob below `prefix`."""
        return await self._inner.delete_all(prefix)

    async def presigned_put(self, key: str, seconds: int) -> str | None:
        """Return None: what a caller puts himself would not be sealed."""
        del key, seconds
        return None

    def listed(self, prefix: str = "") -> AsyncIterator[Stored]:
        """Yield every blob below `prefix`; bytes are those of the sealed blob."""
        return self._inner.listed(prefix)

    async def discard_unfinished(self, before: float) -> int:
        """Delete what a killed process left half-written."""
        return await self._inner.discard_unfinished(before)

    async def reseal(self, key: str) -> bool:
        """Seal a blob with the current key, one that was never sealed too; return whether it was not yet."""
        async with aclosing(self._inner.read(key)) as chunks:
            head = await _Reader(chunks).some(len(MAGIC) + 1 + 64)
        name = head[len(MAGIC) + 1 :][: head[len(MAGIC)]] if head.startswith(MAGIC) else None
        if name == self._keys.current.encode():
            return False
        async with aclosing(self._inner.read(key) if name is None else self.read(key)) as chunks:
            await self.put(key, chunks)
        return True

    async def reseal_all(self) -> tuple[int, int]:
        """Seal every blob with the current key; return how many were not yet, and how many there are."""
        done, keys = 0, [stored.key async for stored in self.listed()]
        for key in keys:
            with suppress(FileNotFoundError):  # deleted meanwhile
                done += await self.reseal(key)
        return done, len(keys)


async def seal(chunks: AsyncIterable[bytes], key: str, keys: MasterKeys) -> AsyncGenerator[bytes]:
    """Yield the sealed form of the blob `key`."""
    header = _header(keys.current)
    data_key, nonce = os.urandom(KEY), os.urandom(NONCE)
    yield header + nonce + AESGCM(keys.keys[keys.current]).encrypt(nonce, data_key, header + key.encode())
    cipher, number = AESGCM(data_key), 0
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        while len(waiting) > PIECE:  # not the last one, as more is here
            yield cipher.encrypt(_nonce(number, _MORE), bytes(waiting[:PIECE]), None)
            del waiting[:PIECE]
            number += 1
    yield cipher.encrypt(_nonce(number, _LAST), bytes(waiting), None)


async def unseal(sealed: AsyncIterable[bytes], key: str, keys: MasterKeys) -> AsyncGenerator[bytes]:
    """Yield what `seal` took, piece by piece. Raises StorageError for anything else, at the piece that is wrong."""
    reader = _Reader(sealed)
    try:
        cipher = AESGCM(await _data_key(reader, key, keys))
        number, piece = 0, await reader.some(PIECE + TAG)
        while following := await reader.some(PIECE + TAG):
            yield cipher.decrypt(_nonce(number, _MORE), piece, None)
            number, piece = number + 1, following
        yield cipher.decrypt(_nonce(number, _LAST), piece, None)
    except InvalidTag as error:
        raise StorageError(f"The blob {key} was changed, cut or moved since it was sealed.") from error


async def _data_key(reader: "_Reader", key: str, keys: MasterKeys) -> bytes:
    start = await reader.some(len(MAGIC) + 1)
    if not start.startswith(MAGIC) or len(start) == len(MAGIC):
        raise StorageError(f"The blob {key} is not sealed; `nautilus db reseal` seals what is there.")
    name = (await reader.some(start[-1])).decode("ascii", "replace")
    master = keys.keys.get(name)
    if master is None:
        raise StorageError(f"The blob {key} needs the encryption key '{name}', which is not among those given.")
    wrapped = await reader.some(WRAPPED)
    return AESGCM(master).decrypt(wrapped[:NONCE].ljust(NONCE, b"\0"), wrapped[NONCE:], _header(name) + key.encode())


def _header(name: str) -> bytes:
    return MAGIC + bytes([len(name)]) + name.encode("ascii", "replace")


def _nonce(number: int, end: bytes) -> bytes:
    """Return a nonce that its data key never sees again."""
    return number.to_bytes(NONCE - 1, "big") + end


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _Reader:
    """Cuts chunks anew."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = aiter(chunks)
        self._waiting = bytearray()

    async def some(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end."""
        while len(self._waiting) < count:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            self._waiting += chunk
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        return taken
