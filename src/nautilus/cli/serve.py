"""Runs the web application under uvicorn until it is told to stop."""

import asyncio
import gc
import os
import socket
import sys
import time
from contextlib import suppress

import uvicorn

from nautilus import __version__
from nautilus.access.fixed import read_keys
from nautilus.access.settings import is_loopback, keys_required
from nautilus.access.store import count_valid
from nautilus.assembly import Core
from nautilus.engines.catalog import Catalog
from nautilus.errors import ConfigurationError, NautilusError
from nautilus.observe import configure_logging
from nautilus.settings import Settings
from nautilus.storage.database import open_database
from nautilus.storage.place import database_url
from nautilus.traces.settings import are_wanted
from nautilus.web.app import create_app
from nautilus.web.protocols import ServerConfig


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
    are_wanted(settings.traces, os.environ)  # what is contradictory there, too
    asyncio.run(_check_access(settings))
    failures: list[NautilusError] = []

    def stop(error: NautilusError) -> None:
        failures.append(error)
        server.should_exit = True

    server = GracefulServer(
        ServerConfig(
            create_app(settings, on_failure=stop),
            settings.http,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=int(settings.drain_seconds),
        )
    )
    if sys.stderr.isatty():
        sys.stderr.write(f"Nautilus {__version__} on http://{settings.host}:{settings.port} (docs at /docs)\n")
    _collect_seldom()
    server.run()
    if failures:
        sys.stderr.write(f"Error: {failures[0]}\n")
    return 1 if failures else 0


def _collect_seldom() -> None:
    """Have the collector leave alone what is there for good, and look for rubbish less often.

    By its own settings (every 700 objects, and through all that was imported) it took a tenth of the event loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _check_access(settings: Settings) -> None:
    """Refuse to start where strangers could ask and nobody has a key. Raises ConfigurationError, StorageError."""
    fixed = read_keys(settings.access)
    if not keys_required(settings.access, settings.host) or fixed or is_loopback(settings.host):
        return
    async with open_database(database_url(settings.storage)) as database:
        if not await count_valid(database, time.time()):
            raise ConfigurationError(
                f"Others than this machine could ask the server at {settings.host}, and there is no key. Make one with "
                "`nautilus keys create NAME`, set NAUTILUS_ACCESS__KEYS, or let in everybody by "
                "NAUTILUS_ACCESS__OPEN=true."
            )
