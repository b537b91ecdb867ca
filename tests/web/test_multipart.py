"""Forms as clients write them, and how they come."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from nautilus.errors import BadRequestError
from nautilus.web.multipart import IN_MEMORY, Parts

CURL = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b'RIFF\r\n-\r\n--\r\n--y\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
)
DATA = b"RIFF\r\n-\r\n--\r\n--y"
DOTNET = (
    b"--x\r\nContent-Disposition: form-data; name=file; filename=a.wav; filename*=utf-8''%C3%A4.wav\r\n\r\n"
    b"1\r\n--x--\r\n"
)


def request(chunks: list[bytes], kind: str = "multipart/form-data; boundary=x") -> Request:
    """Return a request whose body comes in these chunks."""
    coming = iter(chunks)

    async def receive() -> Message:
        chunk = next(coming, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}, receive)


async def read(*chunks: bytes, kind: str = "multipart/form-data; boundary=x") -> list[tuple[str, str | None, bytes]]:
    parts = Parts(request(list(chunks), kind))
    return [(part.name, part.file, b"".join([data async for data in part.data])) async for part in parts]


async def test_files_and_fields_come_in_order() -> None:
    assert await read(CURL) == [("file", "a.wav", DATA), ("model", None, b"whisper-1")]


@given(st.lists(st.integers(0, len(CURL)), max_size=8))
async def test_how_a_body_is_cut_into_chunks_makes_no_difference(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CURL)]
    chunks = [CURL[start:end] for start, end in pairwise(places)]
    assert await read(*chunks) == await read(CURL)


async def test_a_body_may_come_byte_by_byte() -> None:
    assert await read(*(CURL[place : place + 1] for place in range(len(CURL)))) == await read(CURL)


@pytest.mark.parametrize("cut", range(1, len(CURL) - 4, 7))
async def test_a_body_that_ends_too_early_is_refused(cut: int) -> None:
    with pytest.raises(BadRequestError, match="ended too early"):
        await read(CURL[:cut])


async def test_names_need_no_quotes_and_boundaries_may_have_them() -> None:
    assert await read(DOTNET, kind='multipart/form-data; boundary="x"') == [("file", "a.wav", b"1")]


async def test_a_file_may_have_its_name_in_the_extended_form_only() -> None:
    assert await read(DOTNET.replace(b" filename=a.wav;", b"")) == [("file", "\u00e4.wav", b"1")]


async def test_names_that_are_no_utf_8_are_names_all_the_same() -> None:
    assert await read(CURL.replace(b"a.wav", b"\xe4.wav")) == [
        ("file", "\ufffd.wav", DATA),
        ("model", None, b"whisper-1"),
    ]


async def test_what_lies_before_and_behind_the_form_is_no_part_of_it() -> None:
    assert await read(b"before\r\n" + CURL + b"behind") == await read(CURL)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=x"])
async def test_other_bodies_are_told_what_to_be(kind: str) -> None:
    with pytest.raises(BadRequestError, match="multipart/form-data"):
        await read(CURL, kind=kind)


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\nX: " + b"y" * 9000 + b"\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\nno header\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
        b"--x junk\r\n",
    ],
)
async def test_what_is_no_form_is_told_so(body: bytes) -> None:
    with pytest.raises(BadRequestError, match=r"no valid multipart|has no name"):
        await read(body)


async def test_a_form_has_so_many_parts_at_most() -> None:
    one = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    parts = Parts(request([one * 4 + b"--x--\r\n"]), at_most=3)
    with pytest.raises(BadRequestError, match="count"):
        assert [part.name async for part in parts] == []


async def test_a_part_that_nobody_reads_is_skipped() -> None:
    assert [part.name async for part in Parts(request([CURL]))] == ["file", "model"]


async def test_a_field_is_text_of_so_many_bytes_at_most() -> None:
    names = [part async for part in Parts(request([CURL]))]
    assert [name.file for name in names] == ["a.wav", None]
    async for part in Parts(request([CURL])):
        if part.name == "model":
            with pytest.raises(BadRequestError, match="longer than 3 bytes"):
                await part.text(3)


@pytest.mark.parametrize("size", [0, 10, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY])
async def test_files_of_any_size_are_spooled_whole(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    body = CURL.replace(DATA, data[:size])
    chunks = [body[place : place + 70_000] for place in range(0, len(body), 70_000)]
    with ThreadPoolExecutor(1) as threads:
        async for part in Parts(request(chunks)):
            if part.file:
                with await part.spooled(threads) as file:
                    assert file.read() == data[:size]
