"""`GET /v1/usage`, and how requests and live streams note theirs."""

import asyncio
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Final, Literal, TypeAlias

from fastapi import APIRouter, Query
from pydantic import BeforeValidator
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from nautilus.assembly import Core
from nautilus.errors import NautilusError
from nautilus.storage.usage import Use, read_period, totals, usage_document
from nautilus.web import errors
from nautilus.web import job_examples as examples
from nautilus.web.deps import CoreDep, TenantDep, key_of, request_id_of, tenant_of
from nautilus.web.disconnect import ClientGoneError

Kind: TypeAlias = Literal["request", "stream"]


def _read_day(given: str) -> date:
    """Read a day as it is documented: pydantic takes seconds since 1970 as well."""
    if not DAY.fullmatch(given):
        raise ValueError("write it as YYYY-MM-DD")
    return date.fromisoformat(given)


DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
Day: TypeAlias = Annotated[date, BeforeValidator(_read_day)]

router = APIRouter(tags=["usage"])


@router.get("/v1/usage", responses=examples.USAGE)
async def usage(
    core: CoreDep,
    tenant: TenantDep,
    since: Annotated[Day | None, Query(description="First day, UTC; a month before the last one if left out.")] = None,
    until: Annotated[Day | None, Query(description="Last day, UTC; today if left out.")] = None,
) -> JSONResponse:
    """Return what you used on each day, by key and model: requests, live streams and jobs; seconds of audio."""
    period = read_period(since, until)
    found = await totals(core.office.place.database, *period.bounds, tenant)
    return JSONResponse(usage_document(period, found))


@dataclass(slots=True)
class Used:
    """What a request or a live stream used so far."""

    seconds: float = 0.0
    """Of audio."""
    status: int = 200


@contextmanager
def noted(connection: HTTPConnection, core: Core, kind: Kind, model: str) -> Iterator[Used]:
    """Note a request or a live stream when the block ends, however it does; inside, say how much audio it had."""
    used, started = Used(), time.monotonic()
    try:
        yield used
    except WebSocketDisconnect:  # as live streams end
        raise
    except NautilusError as error:
        used.status = errors.status_of(error)
        raise
    except BaseException as error:
        used.status = errors.CLIENT_GONE if isinstance(error, ClientGoneError | asyncio.CancelledError) else 500
        raise
    finally:
        core.office.used(
            Use(
                request=request_id_of(connection) or f"{kind}_{secrets.token_hex(12)}",
                at=time.time(),
                tenant=tenant_of(connection),
                key=key_of(connection),
                kind=kind,
                model=model,
                seconds=used.seconds,
                latency=time.monotonic() - started,
                status=used.status,
            )
        )
