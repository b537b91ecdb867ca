"""The one door: every connection to an address that a caller named is made here.

httpcore asks `CheckedNetwork` for connections, so that none can be made but to an address that was checked. The name
stays the name for everything above it: the Host header, TLS and its certificate.
"""

import asyncio
import email.utils
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Final, Self

import httpcore
import httpx

from nautilus.errors import AddressRefusedError, ConfigurationError, FetchError, FetchRefusedError
from nautilus.outside.address import Resolver, addresses, host_of, parse, port_of, system_resolver
from nautilus.outside.limits import OutsideLimits
from nautilus.traces.trace import Attributes, carried, leaf

MOST_TRIED: Final = 4
"""Addresses of one name that are tried until one answers."""
LONGEST_RETRY_AFTER: Final = 86400.0
"""Seconds: whoever asks for more gets this."""
_FAILED: Final = 400


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to no others."""

    def __init__(self, limits: OutsideLimits, resolve: Resolver) -> None:
        self._limits = limits
        self._resolve = resolve
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look the host up once, check all of its addresses, and connect to the first that answers."""
        del timeout
        seconds = self._limits.connect_seconds
        try:
            async with asyncio.timeout(seconds):
                found = await addresses(host, port, self._limits, self._resolve)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout from error
        first, *others = found[:MOST_TRIED]
        share = seconds / (1 + len(others))
        for address in (first, *others):
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed


class Outside:
    """Asks addresses that callers name. No proxies, no cookies, no redirects, nothing kept between two requests."""

    def __init__(
        self, limits: OutsideLimits, resolve: Resolver = system_resolver, context: ssl.SSLContext | None = None
    ) -> None:
        self.limits = limits
        self._resolve = resolve
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context or trust(limits),
            max_connections=None,  # who asks bounds how often
            max_keepalive_connections=0,
            network_backend=CheckedNetwork(limits, resolve),
        )

    def __repr__(self) -> str:
        return f"<Outside {self._pool!r}>"

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def check(self, text: str, param: str | None = None) -> httpx.URL:
        """Read a caller's URL and look its host up, to refuse early what would be refused later.

        Raises AddressRefusedError, FetchRefusedError, FetchError.
        """
        url = parse(text, self.limits, param)
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                await addresses(host_of(url), port_of(url), self.limits, self._resolve)
        except TimeoutError as error:
            raise FetchError(f"The host {host_of(url)} could not be looked up in time.") from error
        except (AddressRefusedError, FetchRefusedError) as error:
            raise type(error)(str(error), param) from error
        return url

    @asynccontextmanager
    async def request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None = None
    ) -> AsyncIterator[httpcore.Response]:
        """Send a request and give the answer as it comes; leaving the block hangs up.

        The URL is one from `parse`. Raises AddressRefusedError, FetchRefusedError, FetchError, also for what goes wrong
        while the block reads the answer.
        """
        limits = self.limits
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        seconds = {"connect": limits.connect_seconds, "read": limits.read_seconds, "write": limits.read_seconds}
        about: Attributes = {"http.request.method": method, "server.address": host_of(url), "server.port": port_of(url)}
        with _faults(host_of(url)), leaf(method, about, kind="client") as asking:
            lines = {"Host": url.netloc.decode("ascii"), "User-Agent": "Nautilus"}
            lines |= {**(asking.carrier() or carried()), **headers}
            raw = [(key.encode("ascii"), value.encode("ascii")) for key, value in lines.items()]
            async with AsyncExitStack() as stack:
                stream = self._pool.stream(
                    method, target, headers=raw, content=content, extensions={"timeout": seconds}
                )
                async with asyncio.timeout(limits.connect_seconds + limits.read_seconds):
                    response = await stack.enter_async_context(stream)
                asking.note({"http.response.status_code": response.status})
                if response.status >= _FAILED:
                    asking.fail(str(response.status))
                yield response


def trust(limits: OutsideLimits) -> ssl.SSLContext:
    """Return what certificates are checked against. Raises ConfigurationError if the setting's file is none."""
    context = httpx.create_ssl_context(trust_env=False)
    if limits.ca_file is not None:
        try:
            context.load_verify_locations(limits.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationError(
                f"NAUTILUS_OUTSIDE__CA_FILE: {limits.ca_file} cannot be read as PEM certificates: {error}."
            ) from error
    return context


def header(response: httpcore.Response, name: str) -> str | None:
    """Return a header of an answer; None without."""
    wanted = name.lower().encode("ascii")
    return next((value.decode("latin-1").strip() for key, value in response.headers if key.lower() == wanted), None)


def retry_after(response: httpcore.Response, now: float) -> float | None:
    """Return the seconds that an answer's Retry-After asks to wait (a number or a date); None without a valid one."""
    text = header(response, "Retry-After") or ""
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


@contextmanager
def _faults(host: str) -> Iterator[None]:
    """Say in our words what went wrong on the way to a host."""
    try:
        yield
    except (httpcore.TimeoutException, TimeoutError) as error:
        raise FetchError(f"{host} did not answer in time.") from error
    except httpcore.NetworkError as error:
        if isinstance(_root(error), ssl.SSLCertVerificationError):
            raise FetchRefusedError(f"The certificate of {host} is not valid; check the URL.") from error
        what = "could not be reached" if isinstance(error, httpcore.ConnectError) else "broke the connection off"
        raise FetchError(f"{host} {what}.") from error
    except httpcore.RemoteProtocolError as error:
        raise FetchError(f"{host} broke off in the middle of its answer, or did not speak HTTP.") from error
    except httpcore.LocalProtocolError as error:
        raise FetchRefusedError(f"{host} cannot be asked for this URL.") from error


def _root(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error
