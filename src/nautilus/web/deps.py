"""What handlers ask for in their signatures."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from nautilus.assembly import Core
from nautilus.errors import NotReadyError
from nautilus.jobs.job import NO_TENANT


async def _core(request: Request) -> Core:  # not `def`: FastAPI would send that through a thread
    core: Core | None = getattr(request.app.state, "core", None)
    if core is None:
        raise NotReadyError
    return core


async def _tenant(request: Request) -> str:
    return tenant_of(request)


def tenant_of(connection: HTTPConnection) -> str:
    """Return whose request or WebSocket this is."""
    return str(getattr(connection.state, "tenant", NO_TENANT))


def key_of(connection: HTTPConnection) -> str | None:
    """Return the id of the key that a request or WebSocket came with."""
    key: str | None = getattr(connection.state, "key_id", None)
    return key


def request_id_of(connection: HTTPConnection) -> str:
    """Return the `x-request-id` of a request."""
    return str(getattr(connection.state, "request_id", ""))


CoreDep: TypeAlias = Annotated[Core, Depends(_core)]
"""The running core."""

TenantDep: TypeAlias = Annotated[str, Depends(_tenant)]
"""Whose jobs, results and usage a request may see."""
