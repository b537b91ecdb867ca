"""`GET /v1/models` and `/v1/models/{id}`."""

from typing import Any

from fastapi import APIRouter

from nautilus.errors import UnknownModelError
from nautilus.web.deps import CoreDep

router = APIRouter(tags=["models"])

CREATED = 1_764_000_000
"""OpenAI's clients want a date; ours says nothing."""


@router.get("/v1/models")
async def list_models(core: CoreDep) -> dict[str, Any]:
    """List the models that requests may name, the default first, then the names that mean the default."""
    return {"object": "list", "data": [_model(name) for name in (*core.models(), *core.settings.aliases)]}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, core: CoreDep) -> dict[str, Any]:
    """Describe one model."""
    known = (*core.models(), *core.settings.aliases)
    if name not in known:
        raise UnknownModelError(name, core.models())
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    owner = name.partition("/")[0] if "/" in name else "nautilus"
    return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
