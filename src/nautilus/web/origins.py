"""Who may not even ask: pages of other origins, and whoever calls the server by a name that is not its own. Pure ASGI.

A server that asks for no keys trusts whoever reaches it, and a browser reaches it for any page that it shows.
Three things give such pages away:

- `Origin`, which browsers send with every WebSocket and every request that may change something: OWASP, Cross-Site
  WebSocket Hijacking and CSRF. Multipart forms and plain text are sent without asking first (Fetch, "simple requests").
- `Sec-Fetch-Site`, for browsers that leave `Origin` out.
- `Host`, which keeps the page's own name when that was made to point here (DNS rebinding).

Where keys are asked for, a page that knows none learns and does nothing, so that only `Host` counts, if names are set.
"""

import re
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nautilus.access.settings import is_loopback
from nautilus.errors import BadRequestError, HostRefusedError, NautilusError, OriginRefusedError
from nautilus.settings import Settings
from nautilus.web.access import HARMLESS, refuse

ANY: Final = "*"
LOCAL: Final = "localhost"
USUAL_NAMES: Final = frozenset({LOCAL, "127.0.0.1", "[::1]"})
"""Of the loopback; others of its addresses are read, which takes ten times as long."""
USUAL_PORTS: Final = (":80", ":443")
NAMED: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d*)?")
"""A host with its port, if it has one."""


class Origins:
    """Refuses what pages of others ask, unless the settings allow it."""

    def __init__(self, app: ASGIApp, settings: Settings, *, required: bool) -> None:
        self._app = app
        self._pages = None if required or ANY in settings.cors.origins else frozenset(settings.cors.origins)
        self._hosts = _hosts(settings, required=required)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(scope)
            except NautilusError as error:
                await refuse(error, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise what is wrong with who asks."""
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise BadRequestError("An address has no NUL characters.")
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and host and not _is_named(host, self._hosts):
            raise HostRefusedError(host)
        if self._pages is None or (scope["type"] == "http" and scope["method"] in HARMLESS):
            return
        origin = headers.get("origin")
        if origin is None:
            if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                raise OriginRefusedError("other origins")
        elif origin not in self._pages and not is_same(origin, host):
            raise OriginRefusedError(origin)


def is_same(origin: str, host: str) -> bool:
    """Return whether a page came from the server itself; the scheme says nothing, as TLS may be a proxy's."""
    scheme, _, place = origin.lower().partition("://")
    return scheme in ("http", "https") and bool(place) and _bare(place) == _bare(host.lower())


def _bare(place: str) -> str:
    for port in USUAL_PORTS:
        place = place.removesuffix(port)
    return place


def _hosts(settings: Settings, *, required: bool) -> frozenset[str] | None:
    """Return the names that the server answers to besides those of the loopback; None: any."""
    named = frozenset(name.lower() for name in settings.http.hosts)
    if ANY in named:
        return None
    alone = is_loopback(settings.host) and not required and not settings.access.open
    return named if named or alone else None


def _is_named(host: str, names: frozenset[str]) -> bool:
    match = NAMED.fullmatch(host.lower())
    if match is None:
        return False
    name = match[1].rstrip(".")
    return name in names or name in USUAL_NAMES or name.endswith(f".{LOCAL}") or _is_loopback_address(name.strip("[]"))


def _is_loopback_address(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
