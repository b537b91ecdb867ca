import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from nautilus.errors import AddressRefusedError, BadRequestError, FetchError, FetchRefusedError, UploadTooLargeError
from nautilus.outside.door import Outside
from nautilus.outside.fetch import fetch
from nautilus.outside.limits import OutsideLimits
from tests.outside.server import HERE, Answer, Names, Request, always, certified, head, serving

SOUND = bytes(range(256)) * 1000
TAG = '"v1"'


class Pauses:
    """Takes the place of sleeping and remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def get(
    url: str,
    limits: OutsideLimits = HERE,
    at_most: int = 10**6,
    names: Names | None = None,
    pause: Pauses | None = None,
) -> bytes:
    async with Outside(limits, names or Names()) as outside:
        chunks = fetch(outside, url, at_most, pause or Pauses())
        async with aclosing(chunks):
            return b"".join([chunk async for chunk in chunks])


def cut_once(after: int, tag: str = TAG, *, ranges: bool = True, then: bytes = SOUND) -> Answer:
    """Send the beginning of SOUND and hang up; then answer as it should be, from `then`."""
    answers: Iterator[int] = iter([1])

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if next(answers, None):
            writer.write(head(200, Content_Length=len(SOUND), ETag=tag) + SOUND[:after])
        elif ranges and (asked := request.headers.get("range")):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            where = f"bytes {start}-{len(then) - 1}/{len(then)}"
            writer.write(head(206, Content_Length=len(then) - start, Content_Range=where, ETag=tag) + then[start:])
        else:
            writer.write(head(200, Content_Length=len(then), ETag=tag) + then)

    return answer


async def test_a_file_comes_in_chunks_whatever_its_type() -> None:
    async with serving(always(200, SOUND, Content_Type="text/html")) as server:
        assert await get(f"{server.url}/a.wav") == SOUND
    (request,) = server.requests
    assert (request.method, request.headers["accept-encoding"]) == ("GET", "identity")
    assert not {"cookie", "authorization", "range"} & set(request.headers)


async def test_a_body_without_a_length_comes_whole() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, Transfer_Encoding="chunked") + b"5\r\nsound\r\n0\r\n\r\n")

    async with serving(answer) as server:
        assert await get(server.url) == b"sound"


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 401, 403, 404, 410, 416, 451])
async def test_what_the_caller_must_change_fails_once_and_names_the_status(status: int) -> None:
    pause = Pauses()
    async with serving(always(status)) as server:
        with pytest.raises(FetchRefusedError, match=f"answered {status}") as refused:
            await get(server.url, pause=pause)
    assert refused.value.param == "url"
    assert (len(server.requests), pause.seconds) == (1, [])


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_says_when_to_try_again(status: int) -> None:
    async with serving(always(status, Retry_After=7)) as server:
        with pytest.raises(FetchError, match=f"answered {status}") as failed:
            await get(server.url)
    assert failed.value.retry_after == 7.0


async def test_the_secret_part_of_a_url_is_not_told() -> None:
    async with serving(always(403)) as server:
        with pytest.raises(FetchRefusedError) as refused:
            await get(f"{server.url}/private/a.wav?signature=secret")
    assert "secret" not in str(refused.value)
    assert "private" not in str(refused.value)


async def test_a_file_that_says_it_is_too_large_is_not_begun() -> None:
    async with serving(always(200, SOUND)) as server:
        with pytest.raises(UploadTooLargeError, match="1000 bytes") as refused:
            await get(server.url, at_most=1000)
    assert refused.value.param == "url"


async def test_a_file_that_turns_out_too_large_is_left() -> None:
    hung_up = asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200))
        try:
            while True:
                writer.write(SOUND)
                await writer.drain()
        finally:
            hung_up.set()

    async with serving(answer) as server:
        with pytest.raises(UploadTooLargeError):
            await get(server.url)
        await hung_up.wait()


async def test_a_file_that_was_packed_is_refused() -> None:
    async with serving(always(200, b"packed", Content_Encoding="gzip")) as server:
        with pytest.raises(FetchRefusedError, match="gzip"):
            await get(server.url)


async def test_redirects_are_followed() -> None:
    async with serving(always(200, SOUND)) as server, serving(always(302, Location=f"{server.url}/there")) as first:
        assert await get(f"{first.url}/here") == SOUND
    assert [request.target for request in server.requests] == ["/there"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_may_be_relative_and_there_are_five_at_most(status: int) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        step = int(request.target.rsplit("/", 1)[-1])
        done = step == 0
        writer.write(head(200, Content_Length=4) + b"done" if done else head(status, Location=f"./{step - 1}"))

    async with serving(answer) as server:
        assert await get(f"{server.url}/a/5") == b"done"
        with pytest.raises(FetchRefusedError, match="more than 5 times"):
            await get(f"{server.url}/a/6")


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://10.0.0.1/", AddressRefusedError),
        ("http://169.254.169.254/latest/meta-data/", AddressRefusedError),
        ("http://[::ffff:10.0.0.1]/", AddressRefusedError),
        ("http://2130706433/", AddressRefusedError),
        ("http://inside.example/", AddressRefusedError),
        ("//inside.example/", AddressRefusedError),
        ("http://user:secret@127.0.0.1/", AddressRefusedError),
        ("file:///etc/passwd", AddressRefusedError),
        ("http://[bad/", AddressRefusedError),
        ("http://media.example:port/", FetchRefusedError),
        ("http://\\]evil[/", AddressRefusedError),
        ("", FetchRefusedError),
    ],
)
async def test_a_redirect_is_checked_as_the_first_address_was(location: str, kind: type[BadRequestError]) -> None:
    names = Names(inside_example=[["10.0.0.1"]])
    async with serving(always(302, Location=location)) as server:
        with pytest.raises(kind) as refused:
            await get(server.url, names=names)
    assert refused.value.param == "url"


async def test_a_redirect_from_https_to_http_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    context, authority = certified("media.example", tmp_path_factory.mktemp("certificates"))
    names = Names(media_example=[["127.0.0.1"]])
    async with serving(always(200, SOUND)) as plain, serving(always(302, Location=plain.url), context) as server:
        with pytest.raises(AddressRefusedError, match="https to http"):
            await get(f"https://media.example:{server.port}/", replace(HERE, ca_file=authority), names=names)
    assert plain.requests == []


async def test_a_cut_download_goes_on_where_it_stopped() -> None:
    pause = Pauses()
    async with serving(cut_once(100_000)) as server:
        assert await get(server.url, pause=pause) == SOUND
    asked = server.requests[1].headers
    assert asked["if-range"] == TAG
    assert 0 < int(asked["range"].removeprefix("bytes=").removesuffix("-")) <= 100_000
    assert pause.seconds == [0.0]


@pytest.mark.parametrize("tag", [TAG, 'W/"weak"', ""])
async def test_a_cut_download_is_begun_anew_where_the_server_cannot_go_on(tag: str) -> None:
    async with serving(cut_once(100_000, tag, ranges=False)) as server:
        fetched = await get(server.url)
    assert hashlib.sha256(fetched).digest() == hashlib.sha256(SOUND).digest()
    assert ["range" in request.headers for request in server.requests] == [False, tag == TAG], "strong tags only"


@pytest.mark.parametrize("then", [b"x" + SOUND[1:], SOUND[:50_000], b""])
async def test_a_file_that_changed_meanwhile_is_never_joined(then: bytes) -> None:
    async with serving(cut_once(100_000, "", then=then)) as server:
        with pytest.raises(FetchError, match="changed"):
            await get(server.url)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 0-255999/256000", "ETag": TAG},
        {"Content_Range": "pages 1-2/3", "ETag": TAG},
        {"ETag": TAG},
        {"Content_Range": "here", "ETag": '"v2"'},
    ],
)
async def test_a_part_that_does_not_fit_is_never_joined(headers: dict[str, str]) -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if asked := request.headers.get("range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            fits = f"bytes {start}-{len(SOUND) - 1}/{len(SOUND)}"
            given = {name: fits if value == "here" else value for name, value in headers.items()}
            writer.write(head(206, **given) + SOUND[start:])
        else:
            writer.write(head(200, Content_Length=len(SOUND), ETag=TAG) + SOUND[:100_000])

    async with serving(answer) as server:
        with pytest.raises(FetchError, match="changed"):
            await get(server.url)


async def test_a_server_that_denies_the_rest_is_asked_for_the_whole() -> None:
    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if "range" in request.headers:
            writer.write(head(416, Content_Length=0))
        else:
            beginning = len(server.requests) == 1
            writer.write(head(200, Content_Length=len(SOUND), ETag=TAG) + SOUND[: 100_000 if beginning else None])

    async with serving(answer) as server:
        assert await get(server.url) == SOUND
    assert len(server.requests) == 3


async def test_a_download_that_is_cut_again_and_again_is_given_up() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, Content_Length=len(SOUND)) + SOUND[:100_000])

    pause = Pauses()
    async with serving(answer) as server:
        with pytest.raises(FetchError, match="broke off"):
            await get(server.url, pause=pause)
    assert (len(server.requests), pause.seconds) == (4, [0.0, 1.0, 5.0])


async def test_a_download_that_never_began_is_left_to_who_asked() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, Content_Length=len(SOUND)))

    async with serving(answer) as server:
        with pytest.raises(FetchError):
            await get(server.url)
    assert len(server.requests) == 1


async def test_a_body_that_never_ends_is_left_after_the_time_that_is_allowed() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200))
        while True:
            writer.write(b"drip")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(answer) as server:
        with pytest.raises(FetchRefusedError, match="too slow"):
            await get(server.url, replace(HERE, total_seconds=0.2))


async def test_who_stops_early_hangs_up() -> None:
    hung_up = asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200))
        try:
            while True:
                writer.write(SOUND)
                await writer.drain()
        finally:
            hung_up.set()

    async with serving(answer) as server, Outside(HERE) as outside:
        chunks = fetch(outside, server.url, 10**9)
        async with aclosing(chunks):
            await anext(chunks)
        await hung_up.wait()
