"""Straight ways to endpoints that are asked often and read their request themselves.

FastAPI takes five times as long as Starlette to find an endpoint and to hand it what it depends on, a tenth of what all
of the server adds to an upload. It still documents these endpoints: its own routes lie behind.
"""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from nautilus.assembly import Core
from nautilus.web.deps import core_of

Endpoint: TypeAlias = Callable[[Request, Core], Awaitable[Response]]


class DirectRoute(Route):
    """One way; says in the scope which it was, as FastAPI's do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether it leads there; see Starlette."""
        match, found = super().matches(scope)
        return match, {**found, "route": self}


def direct(router: APIRouter) -> list[DirectRoute]:
    """Return the ways to the endpoints of a router, each of which takes a request and the core."""
    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    return [DirectRoute(route.path, _given(route.endpoint), methods=route.methods) for route in routes]


def _given(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def ask(request: Request) -> Response:
        return await endpoint(request, core_of(request))

    return ask
