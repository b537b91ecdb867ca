"""What every store of blobs promises: a folder, a sealed folder, S3, sealed S3."""

import asyncio
import os
import stat
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from nautilus.errors import ConfigurationError, StorageError
from nautilus.storage.blobs import Blobs, S3Options, open_blobs
from nautilus.storage.sealed import MasterKeys, SealedBlobs
from tests.storage.s3 import new_bucket

KEYS = MasterKeys({"k1": bytes(range(32))})
SIZES = [0, 1, 65535, 65536, 65537, 131072, 5 * 1024**2, 11 * 1024**2 + 3]


@pytest.fixture(params=["folder", "sealed folder", "s3", "sealed s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return store(request, tmp_path, request.param)


def store(request: pytest.FixtureRequest, folder: Path, kind: str) -> Blobs:
    if kind.endswith("folder"):
        inner = open_blobs(str(folder / "blobs"))
    else:
        options: S3Options = request.getfixturevalue("s3")
        inner = open_blobs(f"s3://{new_bucket(options)}/some/prefix", options)
    return SealedBlobs(inner, KEYS) if kind.startswith("sealed") else inner


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def names(blobs: Blobs, prefix: str = "") -> list[str]:
    return sorted([stored.key async for stored in blobs.listed(prefix)])


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_put_can_be_read(blobs: Blobs, size: int) -> None:
    data = os.urandom(size)
    assert await blobs.put("t/audio/1", pieces(data)) == size
    assert await blobs.read_bytes("t/audio/1") == data
    assert b"".join([chunk async for chunk in blobs.read("t/audio/1")]) == data


async def test_bytes_can_be_put_at_once_and_replaced(blobs: Blobs) -> None:
    await blobs.put_bytes("t/result/1", b"first")
    await blobs.put_bytes("t/result/1", b"second one")
    assert await blobs.read_bytes("t/result/1") == b"second one"
    assert await names(blobs) == ["t/result/1"]


async def test_many_are_put_and_deleted_together(blobs: Blobs) -> None:
    many = {f"t/result/{number}": f"{number}".encode() for number in range(100)}
    await blobs.put_many(many)
    assert {key: await blobs.read_bytes(key) for key in many} == many
    gone = [*many][:99]
    await blobs.delete_many([*gone, *gone, "t/result/never"])
    assert [stored.key async for stored in blobs.listed("t")] == ["t/result/99"]
    await blobs.put_many({})
    await blobs.delete_many([])


@pytest.mark.parametrize("key", ["../../etc/passwd", "t/a", "t/a/.hidden"])
async def test_one_wrong_name_among_many_stops_all(blobs: Blobs, key: str) -> None:
    await blobs.put_bytes("t/audio/1", b"x")
    with pytest.raises(ValueError, match="not a blob's name"):
        await blobs.put_many({"t/audio/2": b"x", key: b"x"})
    with pytest.raises(ValueError, match="not a blob's name"):
        await blobs.delete_many(["t/audio/1", key])
    assert [stored.key async for stored in blobs.listed("t")] == ["t/audio/1"]


async def test_a_blob_is_a_file_with_a_descriptor(blobs: Blobs) -> None:
    data = os.urandom(300_000)
    await blobs.put_bytes("t/audio/1", data)
    async with blobs.file("t/audio/1") as file:
        assert file.read() == data
        file.seek(200_000)
        assert file.read(10) == data[200_000:200_010]
        assert os.fstat(file.fileno()).st_size == len(data)
    assert file.closed


async def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(FileNotFoundError):
        await blobs.read_bytes("t/audio/none")
    with pytest.raises(FileNotFoundError):
        _ = [chunk async for chunk in blobs.read("t/audio/none")]
    with pytest.raises(FileNotFoundError):
        async with blobs.file("t/audio/none"):
            pass


async def test_deleting_is_final_and_may_be_repeated(blobs: Blobs) -> None:
    await blobs.put_bytes("t/audio/1", b"x")
    await blobs.delete("t/audio/1")
    await blobs.delete("t/audio/1")
    assert await names(blobs) == []


async def test_a_prefix_is_whole_parts_of_names(blobs: Blobs) -> None:
    for key in ("t/result/job/1", "t/result/job/2", "t/result/job2/1", "u/result/job/1"):
        await blobs.put_bytes(key, b"x")
    assert await blobs.delete_all("t/result/job") == 2
    assert await names(blobs) == ["t/result/job2/1", "u/result/job/1"]
    assert await names(blobs, "u") == ["u/result/job/1"]


@pytest.mark.parametrize("size", [0, 1000, 12 * 1024**2])
async def test_a_cut_upload_leaves_nothing(blobs: Blobs, size: int, tmp_path: Path) -> None:
    async def cut() -> AsyncIterator[bytes]:
        async for chunk in pieces(bytes(size), 1024**2):
            yield chunk
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.put("t/audio/1", cut())
    assert await names(blobs) == []
    assert files(tmp_path) == []


async def test_an_upload_that_is_given_up_leaves_nothing(blobs: Blobs, tmp_path: Path) -> None:
    going = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024**2)
            going.set()
            await asyncio.sleep(0.001)

    async def put() -> None:
        await blobs.put("t/audio/1", endless())

    async with asyncio.TaskGroup() as group:
        upload = group.create_task(put())
        await going.wait()
        upload.cancel()
    assert upload.cancelled()
    assert await names(blobs) == []
    await eventually_no_files(tmp_path)


async def eventually_no_files(folder: Path) -> None:
    """The store's own threads take back what was given up."""
    async with asyncio.timeout(10):
        while files(folder):  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(0.01)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "key",
    ["", "t", "t/audio", "/t/audio/1", "t/../../etc/passwd", "t/audio/..", "t//1", "t/audio/1/", "t/a b/1", "t/.x/1"],
)
async def test_a_name_that_leads_elsewhere_is_refused(blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="not a blob's name"):
        await blobs.put_bytes(key, b"x")
    with pytest.raises(ValueError, match="not a blob's name"):
        await blobs.read_bytes(key)
    with pytest.raises(ValueError, match="not a blob's name"):
        await blobs.delete(key)


@pytest.mark.parametrize("prefix", ["", "/", "..", "t/..", "t/"])
async def test_a_prefix_that_means_everything_is_refused(blobs: Blobs, prefix: str) -> None:
    with pytest.raises(ValueError, match="not a prefix"):
        await blobs.delete_all(prefix)


async def test_many_at_once_do_not_mix(blobs: Blobs) -> None:
    async def both(number: int) -> bytes:
        await blobs.put(f"t/audio/{number}", pieces(bytes([number]) * 50_000, 999))
        return await blobs.read_bytes(f"t/audio/{number}")

    assert await asyncio.gather(*(both(number) for number in range(30))) == [bytes([n]) * 50_000 for n in range(30)]


async def test_s3_gives_an_address_to_put_to(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    blobs = store(request, tmp_path, "s3")
    url = await blobs.presigned_put("t/audio/1", 60)
    assert url is not None
    async with httpx.AsyncClient() as client:
        (await client.put(url, content=b"sent past us")).raise_for_status()
    assert await blobs.read_bytes("t/audio/1") == b"sent past us"


@pytest.mark.parametrize("kind", ["folder", "sealed folder", "sealed s3"])
async def test_other_stores_have_no_such_address(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    assert await store(request, tmp_path, kind).presigned_put("t/audio/1", 60) is None


@pytest.mark.parametrize("how", ["cut", "cancelled"])
async def test_an_upload_that_ends_early_leaves_no_parts_in_s3(s3: S3Options, how: str) -> None:
    bucket = new_bucket(s3)
    blobs = open_blobs(f"s3://{bucket}/p", s3)

    async def parts() -> str:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{s3.endpoint}/{bucket}?uploads")).text

    under_way = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        while "<Upload>" not in await parts():
            yield bytes(6 * 1024**2)
        under_way.set()
        yield b"more"
        while how == "cancelled":
            yield b"and more"
            await asyncio.sleep(0)
        raise ConnectionResetError

    async def put() -> None:
        with suppress(ConnectionResetError):
            await blobs.put("t/audio/1", chunks())

    async with asyncio.TaskGroup() as group:
        upload = group.create_task(put())
        await under_way.wait()
        if how == "cancelled":
            upload.cancel()
    assert upload.cancelled() == (how == "cancelled")
    assert "<Upload>" not in await parts()
    assert await names(blobs) == []


async def test_a_store_that_does_not_answer_is_a_storage_error() -> None:
    blobs = open_blobs("s3://bucket", S3Options("http://127.0.0.1:1", "us-east-1", "a", "b"))
    with pytest.raises(StorageError):
        await blobs.read_bytes("t/audio/1")


async def test_a_bucket_that_is_not_there_is_a_storage_error(s3: S3Options) -> None:
    with pytest.raises(StorageError, match="NoSuchBucket"):
        await open_blobs(f"s3://{uuid.uuid4().hex}", s3).put_bytes("t/audio/1", b"x")


@pytest.mark.parametrize("url", ["gs://bucket", "http://host/x", "s3://"])
def test_another_kind_of_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="NAUTILUS_STORAGE__BLOBS_URL"):
        open_blobs(url)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        open_blobs(str(tmp_path / "file" / "blobs"))


def test_only_its_owner_may_look_into_the_folder(tmp_path: Path) -> None:
    open_blobs(str(tmp_path / "blobs"))
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700


KILLED = """
import asyncio, os, sys
from nautilus.storage.blobs import open_blobs

async def chunks():
    for _ in range(12):
        yield bytes(1024**2)
    os.kill(os.getpid(), 9)

asyncio.run(open_blobs(sys.argv[1]).put("t/audio/1", chunks()))
"""


async def test_what_a_killed_process_was_writing_goes(tmp_path: Path) -> None:
    blobs = open_blobs(str(tmp_path / "blobs"))
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, tmp_path / "blobs")
    assert await killed.wait() == -9
    left = files(tmp_path)
    assert (len(left), await names(blobs)) == (1, [])
    written = left[0].stat().st_mtime
    assert (await blobs.discard_unfinished(written), len(files(tmp_path))) == (0, 1)
    assert (await blobs.discard_unfinished(written + 1), files(tmp_path)) == (1, [])


FULL = """
import asyncio, os, resource, signal, sys
from nautilus.errors import StorageError
from nautilus.storage.blobs import open_blobs

async def chunks():
    for _ in range(20):
        yield bytes(1024**2)

async def main(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, resource.RLIM_INFINITY))
    blobs = open_blobs(folder)
    for put in (blobs.put("t/audio/1", chunks()), blobs.put_bytes("t/audio/2", bytes(20_000_000))):
        try:
            await put
        except StorageError as error:
            print("told", error)
    await blobs.put_bytes("t/audio/3", b"fits")

asyncio.run(main(sys.argv[1]))
sys.stdout.flush()
os._exit(0)  # obstore's threads now and then abort an interpreter that ends while they still hold what failed
"""


def test_a_full_disk_is_a_storage_error_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, check=True, text=True)
    assert done.stdout.count("told") == 2
    assert files(tmp_path) == [tmp_path / "t" / "audio" / "3"]
