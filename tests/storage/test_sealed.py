"""What encryption at rest promises beyond the contract of every store."""

import base64
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nautilus.errors import ConfigurationError, StorageError
from nautilus.storage.blobs import Blobs, open_blobs
from nautilus.storage.sealed import MAGIC, PIECE, TAG, WRAPPED, MasterKeys, SealedBlobs, read_master_keys
from tests.storage.test_blobs import files

OLD = MasterKeys({"old": b"o" * 32})
BOTH = MasterKeys({"new": b"n" * 32, "old": b"o" * 32})
NEW = MasterKeys({"new": b"n" * 32})
START = len(MAGIC) + 1 + len("old") + WRAPPED
"""Where the first piece begins."""


@pytest.fixture
def inner(tmp_path: Path) -> Blobs:
    return open_blobs(str(tmp_path / "blobs"))


async def test_nothing_of_a_blob_is_on_the_disk(inner: Blobs, tmp_path: Path) -> None:
    await SealedBlobs(inner, OLD).put_bytes("t/audio/1", b"what was said" * 1000)
    written = b"".join(path.read_bytes() for path in files(tmp_path))
    assert len(written) == START + 13_000 + TAG
    assert b"said" not in written


async def test_the_same_bytes_are_sealed_differently_each_time(inner: Blobs) -> None:
    sealed = SealedBlobs(inner, OLD)
    await sealed.put_bytes("t/audio/1", b"x" * 100)
    first = await inner.read_bytes("t/audio/1")
    await sealed.put_bytes("t/audio/1", b"x" * 100)
    second = await inner.read_bytes("t/audio/1")
    assert first[START:] != second[START:]


async def test_the_format_is_what_it_says(inner: Blobs) -> None:
    """Opens a blob by the description alone: nobody's transcripts may depend on this code."""
    data = os.urandom(PIECE + 5)
    await SealedBlobs(inner, OLD).put_bytes("t/audio/1", data)
    sealed = await inner.read_bytes("t/audio/1")
    header, nonce, wrapped = (
        sealed[: START - WRAPPED],
        sealed[START - WRAPPED : START - WRAPPED + 12],
        sealed[START - 48 : START],
    )
    data_key = AESGCM(b"o" * 32).decrypt(nonce, wrapped, b"NAUTILUS\x01\x03old" + b"t/audio/1")
    first = AESGCM(data_key).decrypt(bytes(12), sealed[START : START + PIECE + TAG], None)
    last = AESGCM(data_key).decrypt(bytes(10) + b"\x01\x01", sealed[START + PIECE + TAG :], None)
    assert (header, first + last) == (b"NAUTILUS\x01\x03old", data)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FULL_PIECE = PIECE + TAG
WRONG: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a byte of the magic": lambda data: flipped(data, 0),
    "the version": lambda data: flipped(data, len(MAGIC) - 1),
    "the length of the name": lambda data: flipped(data, len(MAGIC)),
    "the name": lambda data: flipped(data, len(MAGIC) + 1),
    "the nonce": lambda data: flipped(data, START - WRAPPED),
    "the data key": lambda data: flipped(data, START - 1),
    "the first byte": lambda data: flipped(data, START),
    "the last byte": lambda data: flipped(data, len(data) - 1),
    "a byte cut off": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "cut between pieces": lambda data: data[: START + 2 * FULL_PIECE],
    "the first piece missing": lambda data: data[:START] + data[START + FULL_PIECE :],
    "pieces swapped": lambda data: (
        data[:START]
        + data[START + FULL_PIECE : START + 2 * FULL_PIECE]
        + data[START : START + FULL_PIECE]
        + data[START + 2 * FULL_PIECE :]
    ),
    "a piece twice": lambda data: data[: START + FULL_PIECE] + data[START:],
    "the header alone": lambda data: data[:START],
    "half a header": lambda data: data[: START - 30],
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_blob_that_was_changed_is_refused(inner: Blobs, what: str) -> None:
    sealed = SealedBlobs(inner, OLD)
    await sealed.put_bytes("t/audio/1", bytes(2 * PIECE + 100))
    await inner.put_bytes("t/audio/1", WRONG[what](await inner.read_bytes("t/audio/1")))
    with pytest.raises(StorageError, match="t/audio/1"):
        await sealed.read_bytes("t/audio/1")


async def test_a_blob_of_another_name_is_refused(inner: Blobs) -> None:
    sealed = SealedBlobs(inner, OLD)
    await sealed.put_bytes("a/result/1", b"another tenant's")
    await inner.put_bytes("b/result/1", await inner.read_bytes("a/result/1"))
    with pytest.raises(StorageError, match="moved"):
        await sealed.read_bytes("b/result/1")


async def test_a_new_key_seals_and_old_ones_open(inner: Blobs) -> None:
    await SealedBlobs(inner, OLD).put_bytes("t/audio/old", b"before")
    both = SealedBlobs(inner, BOTH)
    await both.put_bytes("t/audio/new", b"after")
    assert (await both.read_bytes("t/audio/old"), await both.read_bytes("t/audio/new")) == (b"before", b"after")
    assert await SealedBlobs(inner, NEW).read_bytes("t/audio/new") == b"after"
    with pytest.raises(StorageError, match="needs the encryption key 'old'"):
        await SealedBlobs(inner, NEW).read_bytes("t/audio/old")


async def test_after_resealing_the_old_key_is_not_needed(inner: Blobs) -> None:
    data = os.urandom(3 * PIECE)
    await SealedBlobs(inner, OLD).put_bytes("t/audio/old", data)
    await SealedBlobs(inner, NEW).put_bytes("t/audio/new", b"new")
    await inner.put_bytes("t/audio/plain", b"from before there was encryption")
    assert await SealedBlobs(inner, BOTH).reseal_all() == (2, 3)
    assert await SealedBlobs(inner, BOTH).reseal_all() == (0, 3)
    new = SealedBlobs(inner, NEW)
    assert await new.read_bytes("t/audio/old") == data
    assert await new.read_bytes("t/audio/plain") == b"from before there was encryption"


async def test_a_blob_that_was_never_sealed_is_refused_with_what_to_do(inner: Blobs) -> None:
    await inner.put_bytes("t/audio/1", b"planted")
    with pytest.raises(StorageError, match="nautilus db reseal"):
        await SealedBlobs(inner, OLD).read_bytes("t/audio/1")


async def test_pieces_come_before_the_end_is_here(inner: Blobs) -> None:
    """A long recording is never in memory as a whole."""
    largest = 0

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(PIECE)

    sealed = SealedBlobs(inner, OLD)
    assert await sealed.put("t/audio/1", chunks()) == 64 * PIECE
    async for chunk in sealed.read("t/audio/1"):
        largest = max(largest, len(chunk))
    assert largest == PIECE


FULL = """
import asyncio, resource, signal, sys
from nautilus.errors import StorageError
from nautilus.storage.blobs import open_blobs
from nautilus.storage.sealed import MasterKeys, SealedBlobs

async def main(folder):
    blobs = SealedBlobs(open_blobs(folder), MasterKeys({"k": bytes(32)}))
    await blobs.put_bytes("t/audio/1", bytes(8_000_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        async with blobs.file("t/audio/1"):
            print("opened")
    except StorageError as error:
        print("told", error)
    async with asyncio.timeout(10):
        print(len(await blobs.read_bytes("t/audio/1")))

asyncio.run(main(sys.argv[1]))
"""


def test_no_room_for_an_opened_copy_is_a_storage_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, check=True, text=True)
    told, size = done.stdout.splitlines()
    assert (told.startswith("told No room for a copy"), size) == (True, "8000000")


def test_keys_are_read_from_lines_and_commas() -> None:
    one, two = (base64.b64encode(letter * 32).decode() for letter in (b"1", b"2"))
    text = f"# keys of this server\n2026-06:{one}  # the current one\n\n old : {two} ,\n".replace(" : ", ":")
    keys = read_master_keys(text)
    assert (dict(keys.keys), keys.current) == ({"2026-06": b"1" * 32, "old": b"2" * 32}, "2026-06")
    assert "1" * 32 not in repr(keys)


GOOD = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "text", ["", "#", "abc", "a:abc", f":{GOOD}", f"a b:{GOOD}", f"a:{GOOD},a:{GOOD}", f"a:{GOOD[:-4]}"]
)
def test_keys_that_are_none_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read_master_keys(text)
    assert GOOD not in str(raised.value)
