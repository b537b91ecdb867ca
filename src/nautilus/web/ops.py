"""What operators ask: is it alive, is it ready, how is it."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from nautilus.assembly import Core
from nautilus.runtime.lane import Lane
from nautilus.web.examples import answer
from nautilus.web.schemas import TEXT, ref

OPEN_METRICS: Final = "application/openmetrics-text"

router = APIRouter(tags=["operations"])

_READY: Final[dict[int | str, dict[str, Any]]] = {
    200: answer("The default model is warm.", ref("Health"), {"status": "ready", "model": "nautilus-en-4m"}),
    503: answer("It starts, loads a model, or stops.", ref("Health"), {"status": "loading", "model": "nautilus-en-4m"}),
}
_METRICS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "All metrics, in the format that is asked for.", "content": {OPEN_METRICS: {"schema": TEXT}}}
}


@router.get("/health/live", responses={200: answer("It lives.", ref("Health"), {"status": "alive"})})
@router.get("/v1/health/live", include_in_schema=False)
async def live() -> dict[str, str]:
    """Answer while the process can."""
    return {"status": "alive"}


@router.get("/health/ready", responses=_READY)
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
    for standing in core.pool.standings():
        if standing.name == model and standing.lane:
            streams = _streams(standing.lane)
            return _status(200, status="ready", object="health.response", message="ready", model=model, streams=streams)
    return _status(503, status="loading", model=model, progress=core.pool.progress(model))


@router.get("/metrics", response_class=PlainTextResponse, responses=_METRICS)
async def metrics(request: Request) -> Response:
    """Answer Prometheus."""
    content, media_type = request.app.state.metrics.write(request.headers.get("accept", ""))
    return Response(content, headers={"content-type": media_type})


def _streams(lane: Lane) -> dict[str, Any]:
    places = lane.state().places
    capacity = {f"{look_ahead:g}": places.capacity(look_ahead) for look_ahead in lane.info.waits}
    return {"open": places.open.total(), "capacity": capacity, "taken": round(places.taken_share, 3)}


def _status(code: int, **body: Any) -> Response:
    return JSONResponse(body, code, headers={} if code == 200 else {"Retry-After": "1"})  # noqa: PLR2004 - HTTP's own
