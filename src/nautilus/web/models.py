"""`GET /v1/models` and `/v1/models/{id}`."""

from typing import Any, Final

from fastapi import APIRouter

from nautilus.errors import UnknownModelError
from nautilus.web.deps import CoreDep
from nautilus.web.examples import ERRORS, answer
from nautilus.web.schemas import ref

router = APIRouter(tags=["models"])

CREATED = 1_764_000_000
"""OpenAI's clients want a date; ours says nothing."""
_EXAMPLE: Final = {"id": "nautilus-en-4m", "object": "model", "created": CREATED, "owned_by": "nautilus"}


@router.get("/v1/models", responses={200: answer("The models.", ref("Models"), {"object": "list", "data": [_EXAMPLE]})})
async def list_models(core: CoreDep) -> dict[str, Any]:
    """List the models that requests may name, the default first, then the names that mean the default."""
    return {"object": "list", "data": [_model(name) for name in (*core.models(), *core.settings.aliases)]}


@router.get("/v1/models/{name:path}", responses={200: answer("The model.", ref("Model"), _EXAMPLE), 404: ERRORS[404]})
async def get_model(name: str, core: CoreDep) -> dict[str, Any]:
    """Describe one model."""
    known = (*core.models(), *core.settings.aliases)
    if name not in known:
        raise UnknownModelError(name, core.models())
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    owner = name.partition("/")[0] if "/" in name else "nautilus"
    return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
