"""The straight way to endpoints that are asked often and read their request themselves. Pure ASGI.

FastAPI and Starlette take a dozen layers from here to an endpoint: a tenth of what all of the server adds to an upload.
FastAPI documents these endpoints all the same, and answers whoever asks for them by a wrong method.
"""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nautilus.assembly import Core
from nautilus.errors import NautilusError, NotReadyError
from nautilus.web import errors
from nautilus.web.access import route_path


class Direct:
    """Asks the endpoints of one router, each of which takes a request and the core; passes on what is for others."""

    def __init__(self, app: ASGIApp, router: APIRouter, core: Callable[[], Core | None]) -> None:
        self._app = app
        self._core = core
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request; see ASGI."""
        route = self._routes.get((scope.get("method", ""), route_path(scope))) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # as FastAPI does: metrics and traces ask for it
        answer = await self._answer(route, Request(scope, receive, send))
        await answer(scope, receive, send)

    async def _answer(self, route: APIRoute, request: Request) -> Response:
        try:
            core = self._core()
            if core is None:
                raise NotReadyError
            answer: Response = await route.endpoint(request, core)
        except NautilusError as error:
            return errors.response(error)
        except ClientDisconnect:
            return Response(status_code=errors.CLIENT_GONE)
        return answer
