"""What handlers ask for in their signatures."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from nautilus.assembly import Core
from nautilus.errors import NotReadyError


async def _core(request: Request) -> Core:  # not `def`: FastAPI would send that through a thread
    core: Core | None = getattr(request.app.state, "core", None)
    if core is None:
        raise NotReadyError
    return core


CoreDep: TypeAlias = Annotated[Core, Depends(_core)]
"""The running core."""
