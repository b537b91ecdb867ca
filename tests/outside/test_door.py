import asyncio
import time
from collections.abc import Sequence
from email.utils import formatdate
from ipaddress import ip_network
from pathlib import Path

import httpcore
import pytest

from nautilus.errors import AddressRefusedError, ConfigurationError, FetchError, FetchRefusedError
from nautilus.outside.address import parse
from nautilus.outside.door import Outside, retry_after
from nautilus.outside.limits import OutsideLimits
from tests.outside.server import HERE, LOOPBACK, Names, Request, always, certified, head, serving

ALSO_SIX = OutsideLimits((*LOOPBACK, ip_network("::1/128")), ports=(), connect_seconds=5.0, read_seconds=5.0)


async def ask(outside: Outside, url: str) -> bytes:
    async with outside.request("GET", parse(url, outside.limits), {}) as response:
        return await response.aread()


async def test_a_name_stays_the_name_and_the_connection_goes_to_the_checked_address() -> None:
    names = Names(media_example=[["127.0.0.1"]])
    async with serving(always(200, b"sound")) as server, Outside(HERE, names) as outside:
        assert await ask(outside, f"http://media.example:{server.port}/a?b=1") == b"sound"
    (request,) = server.requests
    assert (request.target, request.headers["host"]) == ("/a?b=1", f"media.example:{server.port}")
    assert names.asked == ["media.example"]


async def test_a_name_that_changes_its_mind_is_refused() -> None:
    """DNS rebinding: public when it is checked, the loopback when it is used."""
    names = Names(evil_example=[["93.184.216.34"], ["127.0.0.1"]])
    async with serving(always(200)) as server, Outside(OutsideLimits(ports=()), names) as outside:
        url = await outside.check(f"http://evil.example:{server.port}/")
        with pytest.raises(AddressRefusedError):
            await ask(outside, str(url))
    assert server.requests == []
    assert names.asked == ["evil.example"] * 2


async def test_a_connection_is_not_kept_for_a_later_request() -> None:
    names = Names(evil_example=[["127.0.0.1"], ["10.0.0.1"]])
    over = asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, Content_Length=0, Connection="keep-alive"))
        await over.wait()

    async with serving(answer) as server, Outside(HERE, names) as outside:
        await ask(outside, f"http://evil.example:{server.port}/")
        with pytest.raises(AddressRefusedError):
            await ask(outside, f"http://evil.example:{server.port}/")
        over.set()
    assert len(server.requests) == 1


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    names = Names(media_example=[["::1", "127.0.0.1"]])
    async with serving(always(200, b"sound")) as server, Outside(ALSO_SIX, names) as outside:
        assert await ask(outside, f"http://media.example:{server.port}/") == b"sound"


async def test_an_early_check_blames_the_field() -> None:
    async with Outside(OutsideLimits(), Names(localtest_me=[["127.0.0.1"]])) as outside:
        with pytest.raises(AddressRefusedError) as refused:
            await outside.check("https://localtest.me/", "webhook_url")
    assert refused.value.param == "webhook_url"


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(always(200, b"proxy")) as proxy, serving(always(200, b"sound")) as server:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with Outside(HERE) as outside:
            assert await ask(outside, server.url) == b"sound"
    assert proxy.requests == []


async def test_a_certificate_must_be_for_the_name(tmp_path: Path) -> None:
    context, authority = certified("media.example", tmp_path)
    names = Names(media_example=[["127.0.0.1"]], other_example=[["127.0.0.1"]])
    limits = OutsideLimits(LOOPBACK, ports=(), ca_file=authority)
    async with serving(always(200, b"sound"), context) as server:
        async with Outside(limits, names) as outside:
            assert await ask(outside, f"https://media.example:{server.port}/") == b"sound"
            with pytest.raises(FetchRefusedError, match=r"certificate of other\.example"):
                await ask(outside, f"https://other.example:{server.port}/")
        async with Outside(HERE, names) as outside:
            with pytest.raises(FetchRefusedError, match="certificate"):
                await ask(outside, f"https://media.example:{server.port}/")
    assert len(server.requests) == 1


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    for name in ("missing.pem", "text.pem"):
        (tmp_path / "text.pem").write_text("hello")
        with pytest.raises(ConfigurationError, match=f"CA_FILE.*{name}"):
            Outside(OutsideLimits(ca_file=tmp_path / name))


async def test_a_port_where_nobody_listens_may_be_tried_later() -> None:
    async with serving(always(200)) as server:
        pass
    async with Outside(HERE) as outside:
        with pytest.raises(FetchError, match="could not be reached"):
            await ask(outside, server.url)


@pytest.mark.parametrize("sent", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_what_is_not_a_whole_answer_may_be_tried_later(sent: bytes) -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    async with serving(answer) as server, Outside(HERE) as outside:
        with pytest.raises(FetchError, match=r"127\.0\.0\.1"):
            await ask(outside, server.url)


async def test_a_host_that_says_nothing_is_left() -> None:
    left = asyncio.Event()

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed() if writer.is_closing() else await left.wait()

    limits = OutsideLimits(LOOPBACK, ports=(), read_seconds=0.05)
    async with serving(answer) as server, Outside(limits) as outside:
        with pytest.raises(FetchError, match="in time"):
            await ask(outside, server.url)
        left.set()


async def test_a_host_that_drips_its_head_is_left() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-More: 1\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    limits = OutsideLimits(LOOPBACK, ports=(), connect_seconds=0.1, read_seconds=0.1)
    async with serving(answer) as server, Outside(limits) as outside:
        with pytest.raises(FetchError, match="in time"):
            await ask(outside, server.url)


async def test_a_resolver_that_hangs_is_left() -> None:
    async def resolve(host: str, _: int, /) -> Sequence[str]:
        await asyncio.Event().wait()
        return (host,)

    limits = OutsideLimits(connect_seconds=0.05)
    async with Outside(limits, resolve) as outside:
        with pytest.raises(FetchError, match="in time"):
            await ask(outside, "https://media.example/")
        with pytest.raises(FetchError, match="in time"):
            await outside.check("https://media.example/")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("0", 0.0), ("9" * 400, 86400.0), ("-1", None), ("soon", None), ("", None), ("1e3", None)],
)
def test_retry_after_is_read_as_seconds(text: str, seconds: float | None) -> None:
    assert retry_after(httpcore.Response(429, headers=[(b"retry-after", text.encode())]), 0.0) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    now = time.time()
    response = httpcore.Response(503, headers=[(b"Retry-After", formatdate(now + 90, usegmt=True).encode())])
    assert retry_after(response, now) == pytest.approx(90, abs=1)
    assert retry_after(response, now + 1000) == 0.0
    assert retry_after(httpcore.Response(503), now) is None
