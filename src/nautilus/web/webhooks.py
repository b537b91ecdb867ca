"""`/v1/webhooks/deliveries`: webhooks that were given up, and sending them again."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from nautilus.jobs.document import page_document
from nautilus.jobs.letters import letter_document, queued_document
from nautilus.web import job_examples as examples
from nautilus.web.deps import CoreDep, TenantDep

MAX_PAGE: Final = 1000

router = APIRouter(prefix="/v1/webhooks/deliveries", tags=["jobs"])


@router.get("", responses=examples.LETTERS)
async def deliveries(
    core: CoreDep,
    tenant: TenantDep,
    status: Annotated[Literal["dead"], Query(description="Those that were given up.")] = "dead",
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> JSONResponse:
    """List your webhooks that were given up, the newest first; `after` is the last id of the page before."""
    del status  # there is one so far that is listed
    letters, has_more = await core.office.letters.page(tenant, after, limit)
    return JSONResponse(page_document([letter_document(letter) for letter in letters], has_more))


@router.post("/{delivery_id}/redeliver", status_code=202, responses=examples.REDELIVERED)
async def redeliver(core: CoreDep, tenant: TenantDep, delivery_id: str) -> JSONResponse:
    """Send a webhook again, at once, with the same id and all of its attempts."""
    await core.office.letters.redeliver(tenant, delivery_id)
    return JSONResponse(queued_document(delivery_id), 202)
