"""Which addresses callers may name.

    text ──parse──▶ URL ──resolve, once──▶ addresses ──each checked──▶ the ones to connect to

A name is looked up once and the connection is made to what was checked, so that a name which changes its mind between
the check and the connection (DNS rebinding) gains nothing. One refused address refuses the name.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol, TypeAlias

import httpx

from nautilus.errors import AddressRefusedError, FetchError, FetchRefusedError
from nautilus.outside.limits import Network, OutsideLimits

Address: TypeAlias = IPv4Address | IPv6Address

LONGEST: Final = 8192
"""Characters of a URL."""
MOST_ADDRESSES: Final = 64
"""Of one name. More are a mistake or an attack."""

NEVER: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local, and what most clouds tell their machines' secrets on
            "fe80::/10",
            "168.63.129.16/32",  # Azure
            "100.100.100.200/32",  # Alibaba
            "192.0.0.192/32",  # Oracle
            "fd00:ec2::/32",  # Amazon
            "fd20:ce::254/128",  # Google
        ),
    )
)
"""What no setting allows."""
NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "5f00::/16", "2001::/23", "3fff::/20", "fec0::/10"),
    )
)
"""What `ipaddress` takes for public in one or another version of Python, and is not: relays, local use, documents."""
PUBLIC_V6: Final = IPv6Network("2000::/3")
"""All that was ever given out."""
NAT64: Final = IPv6Network("64:ff9b::/96")
NOT_ALLOWED: Final = "it does not lead to a public address, and this server asks no others"

_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_UNSEEN: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\\]")
"""Blanks, line ends, other controls, and the backslash, which readers of URLs disagree about."""


class Resolver(Protocol):
    """Looks names up."""

    async def __call__(self, host: str, port: int, /) -> Sequence[str]:
        """Return the addresses of a host as text. Raises OSError (`socket.gaierror`)."""
        ...


async def system_resolver(host: str, port: int, /) -> Sequence[str]:
    """Ask what the operating system asks."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(str(entry[4][0]) for entry in found)


def parse(text: str, limits: OutsideLimits, param: str | None = None) -> httpx.URL:
    """Read a URL that a caller sent. Raises AddressRefusedError, which names `param`, for what is never allowed.

    A name is not looked up yet; an address that is written in the URL is looked at.
    """
    try:
        url = _read(text)
        _check_port(url, limits)
        _check_literal(_literal(host_of(url)), limits)
    except _RefusedError as why:
        raise AddressRefusedError(f"This URL cannot be used: {why}.", param) from None
    return url


def host_of(url: httpx.URL) -> str:
    """Return the host as it is looked up: in ASCII, an IPv6 address without brackets."""
    return url.raw_host.decode("ascii")


def port_of(url: httpx.URL) -> int:
    """Return the port, the scheme's own if none is named."""
    return url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]


async def addresses(host: str, port: int, limits: OutsideLimits, resolve: Resolver) -> list[str]:
    """Look a host up and return where to connect to, the best first.

    Raises AddressRefusedError if one of its addresses is refused, FetchRefusedError if there is no such host, and
    FetchError if nobody could tell.
    """
    try:
        found = dict.fromkeys(ip_address(text) for text in await resolve(host, port))
    except socket.gaierror as error:
        if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
            raise FetchRefusedError(f"There is no host named {host}; check the URL.") from error
        raise FetchError(f"The host {host} could not be looked up just now.") from error
    except (OSError, ValueError) as error:  # ValueError: UnicodeError of a label that is too long
        raise FetchRefusedError(f"The host {host} could not be looked up; check the URL.") from error
    if not 0 < len(found) <= MOST_ADDRESSES:
        raise FetchRefusedError(f"The host {host} has {len(found)} addresses; name another.")
    if not all(is_allowed(address, limits) for address in found):
        raise AddressRefusedError(f"{host} cannot be used: {NOT_ALLOWED}.")
    return list(map(str, found))


def is_allowed(address: Address, limits: OutsideLimits) -> bool:
    """Whether callers may have this address reached."""
    inner = _embedded(address)
    both = (address, inner)
    if any(one in network for one in both for network in (*NEVER, *limits.refused_networks)):
        return False
    return any(inner in network for network in limits.networks) or _is_public(inner)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in PUBLIC_V6:
        return False
    odd = address.is_multicast or address.is_reserved or any(address in network for network in NOT_PUBLIC)
    return address.is_global and not odd


def _embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, itself otherwise."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


class _RefusedError(ValueError):
    """Why a URL is refused, as the end of a sentence."""


def _read(text: str) -> httpx.URL:
    if len(text) > LONGEST:
        raise _RefusedError(f"it is longer than {LONGEST} characters")
    if _UNSEEN.search(text):
        raise _RefusedError("it contains blanks, control characters or a backslash; percent-encode them")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: half of a character, which JSON can carry
        raise _RefusedError("it is not a valid URL") from error
    if url.scheme not in {"http", "https"}:
        raise _RefusedError("it must begin with https:// or http://")
    if url.userinfo:
        raise _RefusedError("it must not contain a user name or password; sign the URL instead")
    _check_host(host_of(url))
    return url.copy_with(raw_path=url.raw_path, fragment=None)  # a path of its own, "/" at least


def _check_port(url: httpx.URL, limits: OutsideLimits) -> None:
    port = port_of(url)
    if limits.ports and port not in limits.ports:
        raise _RefusedError(f"port {port} is not allowed here; use one of {', '.join(map(str, limits.ports))}")
    if not 0 < port < 65536:  # noqa: PLR2004 - what ports are
        raise _RefusedError(f"there is no port {port}")


def _check_host(host: str) -> None:
    if _literal(host) and "%" not in host:
        return
    if not _NAME.fullmatch(host):
        raise _RefusedError("its host is not a name or an address")
    if _NUMBER.fullmatch(host.rstrip(".").rsplit(".", 1)[-1]):
        raise _RefusedError("write the host's address as four numbers with dots, or use its name")


def _check_literal(address: Address | None, limits: OutsideLimits) -> None:
    if address and not is_allowed(address, limits):
        raise _RefusedError(NOT_ALLOWED)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
