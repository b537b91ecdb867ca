"""The application: a core, its routes, and what surrounds them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from nautilus import __version__
from nautilus.access.keyring import note_on
from nautilus.access.settings import keys_required
from nautilus.assembly import Core, LoadEngine, assemble
from nautilus.errors import NautilusError
from nautilus.observe import watch_loop
from nautilus.settings import Settings
from nautilus.traces.settings import are_wanted
from nautilus.web import (
    admin,
    client_secrets,
    errors,
    jobs,
    models,
    ops,
    page,
    realtime,
    stream,
    transcriptions,
    uploads,
    usage,
    webhooks,
)
from nautilus.web.access import Access
from nautilus.web.direct import Direct
from nautilus.web.exposition import Exposition
from nautilus.web.metrics import HttpMeters
from nautilus.web.middleware import EXPOSED, BodyLimit, RequestContext, SecurityHeaders
from nautilus.web.openapi import describe
from nautilus.web.origins import Origins
from nautilus.web.tracing import Tracing

SUMMARY = "Speech to text with NVIDIA NeMo models. OpenAI's clients work unchanged: set their base URL to this server."

NO_TELEMETRY: Final = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own tell of queries, in which live streams have secrets, and of errors as they are; ours don't."""


def _ignore(error: NautilusError) -> None:
    del error


def create_app(
    settings: Settings, on_failure: Callable[[NautilusError], None] = _ignore, load: LoadEngine | None = None
) -> FastAPI:
    """Return the application; `load`: see `assemble`.

    `on_failure` is told when a model of the settings can't be loaded.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with assemble(settings, load) as core, asyncio.TaskGroup() as tasks:
            app.state.core = core
            watching = tasks.create_task(watch_loop(core.meters.loop_lag), name="watch the event loop")
            loaded = asyncio.Event()
            loading = tasks.create_task(_load(core, on_failure, loaded), name="load the models of the settings")
            working = tasks.create_task(_work(core, on_failure, loaded), name="work on jobs")
            noting = tasks.create_task(note_on(core.keyring), name="note when keys were used")
            try:
                yield
            finally:
                app.state.core = None
                working.cancel()
                noting.cancel()
                loading.cancel()
                watching.cancel()

    app: FastAPI = FastAPIOffline(
        title="Nautilus",
        version=__version__,
        description=SUMMARY,
        redoc_url=None,
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    errors.install(app)
    rooms = (transcriptions, jobs, uploads, webhooks, usage, stream, realtime, client_secrets, models, admin, ops, page)
    for room in rooms:
        app.include_router(room.router)

    def core_now() -> Core | None:
        return getattr(app.state, "core", None)

    app.add_middleware(Direct, router=transcriptions.router, core=core_now)  # the innermost
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes, limits=settings.http)
    required = keys_required(settings.access, settings.host)
    app.add_middleware(Access, settings=settings, core=core_now, required=required)
    app.openapi = describe(app, required=required)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    meters = HttpMeters()
    app.state.metrics = Exposition(meters, core_now)
    app.add_middleware(Origins, settings=settings, required=required)
    app.add_middleware(RequestContext, meters=meters)
    if are_wanted(settings.traces, os.environ):
        app.add_middleware(Tracing, core=core_now)
    app.add_middleware(SecurityHeaders)
    if settings.cors.origins:  # outermost, so that a page may read refusals as well
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors.origins,
            allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
            max_age=settings.cors.max_age,
        )
    return app


async def _load(core: Core, on_failure: Callable[[NautilusError], None], loaded: asyncio.Event) -> None:
    try:
        await core.pool.keep(core.default_model)
        if core.final_model:
            await core.pool.keep(core.final_model)
    except NautilusError as error:
        on_failure(error)
    finally:
        loaded.set()
        core.threads.submit(core.pipeline.warm_up)  # not earlier: the model's process needs both cores to start


async def _work(core: Core, on_failure: Callable[[NautilusError], None], loaded: asyncio.Event) -> None:
    try:
        await core.office.work(loaded)
    except NautilusError as error:
        on_failure(error)
