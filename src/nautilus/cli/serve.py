"""Runs the web application under uvicorn until it is told to stop."""

import asyncio
import socket
import sys
from contextlib import suppress

import uvicorn

from nautilus import __version__
from nautilus.assembly import Core
from nautilus.engines.catalog import Catalog
from nautilus.errors import NautilusError
from nautilus.observe import configure_logging
from nautilus.settings import Settings
from nautilus.web.app import create_app


class GracefulServer(uvicorn.Server):
    """Ends live conversations with their last words before uvicorn closes their connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; see uvicorn."""
        core: Core | None = getattr(self.config.app.state, "core", None)  # type: ignore[union-attr]  # ours is FastAPI's
        if core:
            with suppress(TimeoutError):
                async with asyncio.timeout(core.settings.drain_seconds):
                    await core.drain.finish()
        await super().shutdown(sockets)


def run_server(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code. A default model that can't be loaded ends it with 1."""
    configure_logging(settings.log_level, settings.log_format)
    catalog = Catalog(settings.models_dir)
    for name in (settings.model, *filter(None, (settings.final_model,)), *settings.models):
        catalog.find(name)  # a misspelt name ends it here, before anything runs
    failures: list[NautilusError] = []

    def stop(error: NautilusError) -> None:
        failures.append(error)
        server.should_exit = True

    server = GracefulServer(
        uvicorn.Config(
            create_app(settings, on_failure=stop),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            http="httptools",
            timeout_graceful_shutdown=int(settings.drain_seconds),
        )
    )
    if sys.stderr.isatty():
        sys.stderr.write(f"Nautilus {__version__} on http://{settings.host}:{settings.port} (docs at /docs)\n")
    server.run()
    if failures:
        sys.stderr.write(f"Error: {failures[0]}\n")
    return 1 if failures else 0
