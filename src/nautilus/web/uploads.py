"""`/v1/uploads`: recordings that are sent before the job that takes them."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from nautilus.errors import BadRequestError
from nautilus.web import job_examples as examples
from nautilus.web.deps import CoreDep, TenantDep

router = APIRouter(prefix="/v1/uploads", tags=["jobs"])


class NewUpload(BaseModel):
    """What is going to be sent."""

    name: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$", description="What the recording is called.")


@router.post("", status_code=201, responses=examples.UPLOAD_BEGUN)
async def begin(request: Request, core: CoreDep, tenant: TenantDep, new: NewUpload) -> JSONResponse:
    """Make room for one large recording: PUT it to `url`, then begin a job with its `id`."""
    uploads = core.jobs.uploads
    upload = await uploads.begin(tenant, new.name)
    url = await uploads.address(upload) or f"{request.base_url}v1/uploads/{upload.id}"
    body = {"id": upload.id, "object": "upload", "name": upload.name}
    return JSONResponse(body | {"method": "PUT", "url": url, "expires_at": int(upload.expires_at)}, 201)


@router.put("/{upload_id}", openapi_extra=examples.UPLOAD_BODY, responses=examples.UPLOADED)
async def receive(request: Request, core: CoreDep, tenant: TenantDep, upload_id: str) -> JSONResponse:
    """Take the recording itself, as the body. Sent again, it replaces what was sent before."""
    upload, size = await core.jobs.uploads.receive(tenant, upload_id, _body(request))
    body = {"id": upload.id, "object": "upload", "name": upload.name, "bytes": size}
    return JSONResponse(body | {"expires_at": int(upload.expires_at)})


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise BadRequestError("The body ended too early; send it whole.", "body") from None
