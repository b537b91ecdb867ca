"""What handlers ask for in their signatures."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from nautilus.assembly import Core
from nautilus.errors import NotReadyError
from nautilus.jobs.job import NO_TENANT


async def _core(request: Request) -> Core:  # not `def`: FastAPI would send that through a thread
    core: Core | None = getattr(request.app.state, "core", None)
    if core is None:
        raise NotReadyError
    return core


async def _tenant(request: Request) -> str:
    return str(getattr(request.state, "tenant", NO_TENANT))


CoreDep: TypeAlias = Annotated[Core, Depends(_core)]
"""The running core."""

TenantDep: TypeAlias = Annotated[str, Depends(_tenant)]
"""Whose jobs, results and usage a request may see."""
