"""A file from an address that a caller named, as chunks.

    ask ──3xx──▶ ask there (checked as the first, five times at most)
     │ 2xx
     ▼
    chunks ──cut──▶ ask for the rest (Range, If-Range) ──206──▶ more chunks
                                                      └──200──▶ the beginning again: must be what was given on already

What a caller got wrong raises BadRequestError, once and for all. What may pass raises FetchError: worth another try.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import httpcore
import httpx

from nautilus.errors import AddressRefusedError, BadRequestError, FetchError, FetchRefusedError, UploadTooLargeError
from nautilus.outside.address import host_of, parse
from nautilus.outside.door import Outside, header, retry_after

MOST_REDIRECTS: Final = 5
PAUSES: Final = (0.0, 1.0, 5.0)
"""Seconds before each try to get the rest of a download that was cut."""
PARAM: Final = "url"

_OK, _PARTIAL, _NO_SUCH_RANGE = 200, 206, 416
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429})
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Download:
    """How far a download is."""

    host: str
    at_most: int
    """Bytes."""
    deadline: float
    """On the loop's clock."""
    done: int = 0
    """Bytes that were given on."""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    """Of what was given on."""
    validator: str | None = None
    """A strong ETag, to ask for the rest of the same file with."""

    def take(self, chunk: bytes) -> bytes:
        """Count a chunk. Raises UploadTooLargeError."""
        self.done += len(chunk)
        if self.done > self.at_most:
            raise _too_large(self.at_most)
        self.digest.update(chunk)
        return chunk


class _OtherFileError(Exception):
    """What comes now is not the file whose beginning was given on."""


async def fetch(outside: Outside, text: str, at_most: int, pause: Sleep = asyncio.sleep) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of the file at a URL. Close it (`aclosing`) if you may stop early.

    Raises AddressRefusedError, FetchRefusedError and UploadTooLargeError for what the caller must change, and
    FetchError for what may be had another time.
    """
    url = parse(text, outside.limits, PARAM)
    deadline = asyncio.get_running_loop().time() + outside.limits.total_seconds
    download = Download(host_of(url), at_most, deadline)
    for seconds in (*PAUSES, None):
        try:
            async with aclosing(_attempt(outside, url, download)) as chunks:
                async for chunk in chunks:
                    yield download.take(chunk)
        except FetchError as error:
            if seconds is None or download.done == 0 or error.retry_after is not None:
                raise
            await pause(seconds)
        except _OtherFileError as error:
            raise FetchError(f"The file of {download.host} changed while it was fetched.") from error
        except BadRequestError as error:
            error.param = PARAM
            raise
        else:
            return


async def _attempt(outside: Outside, url: httpx.URL, download: Download) -> AsyncGenerator[bytes, None]:
    """Yield what is missing of a file."""
    async with _answer(outside, url, download) as response:
        chunks = _chunks(response, download)
        async with aclosing(chunks):
            if response.status != _PARTIAL:
                _begin(response, download)
                chunks = _skip(chunks, download) if download.done else chunks
            async for chunk in chunks:
                yield chunk


@asynccontextmanager
async def _answer(outside: Outside, url: httpx.URL, download: Download) -> AsyncIterator[httpcore.Response]:
    """Ask for a file, follow redirects, and give the answer that has it."""
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if download.done and download.validator:
        headers |= {"Range": f"bytes={download.done}-", "If-Range": download.validator}
    for _ in range(MOST_REDIRECTS + 1):
        async with outside.request("GET", url, headers) as response:
            if response.status not in _REDIRECTS:
                _check(response, download, host_of(url))
                yield response
                return
            url = _next(url, response, outside)
    raise FetchRefusedError(f"{download.host} redirects more than {MOST_REDIRECTS} times.")


def _next(url: httpx.URL, response: httpcore.Response, outside: Outside) -> httpx.URL:
    """Return where a redirect leads. Raises AddressRefusedError, FetchRefusedError."""
    location = header(response, "Location")
    if not location:
        raise FetchRefusedError(f"{host_of(url)} answered {response.status} without saying where to go.")
    try:
        there = str(url.join(location))
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: of urllib, which joins
        raise FetchRefusedError(f"{host_of(url)} redirects to what is not a valid URL.") from error
    following = parse(there, outside.limits, PARAM)
    if (url.scheme, following.scheme) == ("https", "http"):
        raise AddressRefusedError(f"{host_of(url)} redirects from https to http, which is not followed.")
    return following


def _check(response: httpcore.Response, download: Download, host: str) -> None:
    """Refuse an answer that does not have the file. Raises FetchError, FetchRefusedError."""
    status = response.status
    if status in _TRANSIENT or status >= 500:  # noqa: PLR2004 - the server's own faults
        raise FetchError(f"{host} answered {status}.", retry_after(response, time.time()))
    if status == _NO_SUCH_RANGE and download.validator:
        download.validator = None
        raise FetchError(f"{host} does not have the rest of the file.")
    if status == _PARTIAL and download.done and download.validator:
        _check_part(response, download)
    elif status != _OK:
        raise FetchRefusedError(f"{host} answered {status}; name a URL that answers a plain GET with the file.")
    encoding = header(response, "Content-Encoding") or "identity"
    if encoding != "identity":
        raise FetchRefusedError(f"{host} sends the file encoded as {encoding[:20]}; it must send it as it is.")


def _check_part(response: httpcore.Response, download: Download) -> None:
    """Make sure that a part goes on where the last one stopped, in the same file. Raises _OtherFileError."""
    found = _RANGE.fullmatch(header(response, "Content-Range") or "")
    same = header(response, "ETag") in {None, download.validator}
    if not same or found is None or int(found[1]) != download.done:
        raise _OtherFileError


def _begin(response: httpcore.Response, download: Download) -> None:
    """Read what an answer with the whole file tells about it. Raises UploadTooLargeError."""
    length = header(response, "Content-Length") or ""
    if length.isascii() and length.isdigit() and int(length) > download.at_most:
        raise _too_large(download.at_most)
    tag = header(response, "ETag") or ""
    download.validator = tag if tag.startswith('"') else None


async def _skip(chunks: AsyncIterator[bytes], download: Download) -> AsyncGenerator[bytes, None]:
    """Read the beginning once more, make sure that it is the same, and yield the rest. Raises _OtherFileError."""
    digest, missing = hashlib.sha256(), download.done
    wanted = download.digest.digest()
    async for chunk in chunks:
        again, new = chunk[:missing], chunk[missing:]
        if again:
            digest.update(again)
            missing -= len(again)
            if missing == 0 and digest.digest() != wanted:
                raise _OtherFileError
        if new:
            yield new
    if missing:
        raise _OtherFileError


async def _chunks(response: httpcore.Response, download: Download) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes. Raises FetchError when the time is over."""
    stream = response.aiter_stream()
    while True:
        try:
            async with asyncio.timeout_at(download.deadline):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise FetchRefusedError(
                f"{download.host} is too slow: the file did not come in the time that this server allows."
            ) from error
        if chunk is None:
            return
        yield chunk


def _too_large(at_most: int) -> UploadTooLargeError:
    return UploadTooLargeError(at_most, "The file at this URL", PARAM)
