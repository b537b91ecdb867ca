"""What orchestrators ask: is it alive, is it ready."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from nautilus.assembly import Core

router = APIRouter(tags=["operations"])


@router.get("/health/live")
@router.get("/v1/health/live", include_in_schema=False)
async def live() -> dict[str, str]:
    """Answer while the process can."""
    return {"status": "alive"}


@router.get("/health/ready")
@router.get("/health", include_in_schema=False)
@router.get("/v1/health/ready", include_in_schema=False)
async def ready(request: Request) -> Response:
    """Answer 200 once the default model is warm; until then 503 with how far it is."""
    core: Core | None = getattr(request.app.state, "core", None)
    if core is None:
        return _status(503, status="starting")
    if core.drain.begun.is_set():
        return _status(503, status="stopping")
    model = core.default_model
    if model in core.pool.loaded():
        return _status(200, status="ready", object="health.response", message="ready", model=model)
    return _status(503, status="loading", model=model, progress=core.pool.progress(model))


def _status(code: int, **body: Any) -> Response:
    return JSONResponse(body, code, headers={} if code == 200 else {"Retry-After": "1"})  # noqa: PLR2004 - HTTP's own
