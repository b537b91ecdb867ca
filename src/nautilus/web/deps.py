"""What handlers ask for in their signatures."""

from typing import Annotated, Final, TypeAlias

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from nautilus.access.keys import Caller
from nautilus.assembly import Core
from nautilus.errors import NotReadyError
from nautilus.types import Claim, Priority


async def _core(request: Request) -> Core:  # not `def`: FastAPI would send that through a thread
    core: Core | None = getattr(request.app.state, "core", None)
    if core is None:
        raise NotReadyError
    return core


def caller_of(connection: HTTPConnection) -> Caller:
    """Return who asks."""
    found: Caller = getattr(connection.state, "caller", ANYBODY)
    return found


async def _caller(request: Request) -> Caller:
    return caller_of(request)


async def _tenant(request: Request) -> str:
    return tenant_of(request)


def tenant_of(connection: HTTPConnection) -> str:
    """Return whose request or WebSocket this is."""
    return caller_of(connection).tenant


def claim_of(connection: HTTPConnection) -> Claim:
    """Return by what right a request waits: with others of its tenant, who take turns with other tenants."""
    return Claim(Priority.REQUEST, tenant_of(connection))


def key_of(connection: HTTPConnection) -> str | None:
    """Return the id of the key that a request or WebSocket came with."""
    return caller_of(connection).key


def request_id_of(connection: HTTPConnection) -> str:
    """Return the `x-request-id` of a request."""
    return str(getattr(connection.state, "request_id", ""))


ANYBODY: Final = Caller()
"""Who asks a server that asks for no keys."""

CoreDep: TypeAlias = Annotated[Core, Depends(_core)]
"""The running core."""

CallerDep: TypeAlias = Annotated[Caller, Depends(_caller)]
"""Who asks."""

TenantDep: TypeAlias = Annotated[str, Depends(_tenant)]
"""Whose jobs, results and usage a request may see."""
