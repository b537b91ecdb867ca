"""`/v1/audio/transcriptions/jobs`: begin jobs, watch them, read their results."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from nautilus.assembly import Core
from nautilus.errors import BadRequestError, NautilusError, UploadTooLargeError
from nautilus.jobs.document import event_frame, file_document, job_document, page_document
from nautilus.jobs.job import Fault, FileState, Importance, JobRequest, Source, Status, check_metadata
from nautilus.jobs.service import Arrival, Jobs
from nautilus.jobs.webhook import check_webhook_url
from nautilus.traces.trace import carried
from nautilus.types import Transcript
from nautilus.web import errors
from nautilus.web import job_examples as examples
from nautilus.web.deps import CallerDep, CoreDep, TenantDep
from nautilus.web.disconnect import EventStream
from nautilus.web.multipart import Parts
from nautilus.wire import openai_rest
from nautilus.wire.forms import Format, TranscriptionForm, read_form
from nautilus.wire.jobs import JobForm, read_job_form, read_json_body
from nautilus.wire.untrusted import read_json

PATH: Final = "/v1/audio/transcriptions/jobs"
MAX_FIELD_BYTES: Final = 64 * 1024**2
"""Of one text field: a manifest of 10,000 addresses fits in."""
MAX_PAGE: Final = 1000
MOST_NUMBER: Final = 2**31 - 1
"""Of a file or an event: what a column of the database takes."""

router = APIRouter(prefix=PATH, tags=["jobs"])

PartialDep = Annotated[bool, Query(description="What is heard so far, of a job that still runs.")]


@router.post("", status_code=202, openapi_extra=examples.REQUEST, responses=examples.SUBMITTED)
async def submit(
    request: Request,
    core: CoreDep,
    caller: CallerDep,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Accept files, addresses or a manifest to be transcribed; answers at once with the job."""
    async with core.jobs.arriving(caller.tenant) as arrival:
        form = await _received(request, core, arrival)
        for row in form.rows:
            _check_count(arrival, core.jobs)
            error = Fault("bad_row", row.error) if row.error else None
            arrival.sources.append(Source(row.name, url=row.url, upload=row.upload, error=error))
        if not arrival.sources:
            raise BadRequestError("Send at least one 'file', 'url', 'upload' or 'manifest'.", "file")
        core.resolve(form.form.model)
        asked = JobRequest(
            form=form.fields,
            metadata=check_metadata(form.metadata),
            webhook_url=_webhook_url(core, form.webhook_url),
            priority=cast("Importance", form.priority),
            idempotency_key=_unquoted(idempotency_key),
            key=caller.key,
            trace=carried(),
        )
        job = await core.jobs.submit(arrival, asked, caller.limits.queued_jobs)
    body = job_document(job, core.jobs.now(), await core.jobs.position(job), form.form.warnings)
    return JSONResponse(body, 202, {"Location": f"{PATH}/{job.id}"})


@router.get("", responses=examples.JOBS)
async def jobs(
    core: CoreDep,
    tenant: TenantDep,
    status: Status | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
) -> JSONResponse:
    """List your jobs, the youngest first; `after` is the last id of the page before."""
    page = await core.jobs.page(tenant, status, after, limit)
    return JSONResponse(page_document([job_document(job, core.jobs.now()) for job in page.jobs], page.has_more))


@router.get("/{job_id}", responses=examples.JOB)
async def job(core: CoreDep, tenant: TenantDep, job_id: str) -> JSONResponse:
    """Return a job: its status, how far it is, and when it will probably be done."""
    found = await core.jobs.get(tenant, job_id)
    return JSONResponse(job_document(found, core.jobs.now(), await core.jobs.position(found)))


@router.get("/{job_id}/files", responses=examples.FILES)
async def files(
    core: CoreDep,
    tenant: TenantDep,
    job_id: str,
    status: Status | None = None,
    after: Annotated[int, Query(ge=-1, le=MOST_NUMBER)] = -1,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> JSONResponse:
    """List a job's files in order; `after` is the number of the last one of the page before."""
    found = await core.jobs.get(tenant, job_id)
    some = await core.jobs.files(found, (status,) if status else (), after, limit + 1)
    return JSONResponse(page_document([file_document(one) for one in some[:limit]], len(some) > limit))


@router.get("/{job_id}/result", responses=examples.RESULT)
async def result(
    core: CoreDep,
    tenant: TenantDep,
    job_id: str,
    file: Annotated[int | None, Query(ge=0, le=MOST_NUMBER)] = None,
    response_format: Format | None = None,
    partial: PartialDep = False,
) -> Response:
    """Return a transcript in any format; of a job with many files, and no `file` named, all of them as JSON lines."""
    found = await core.jobs.get(tenant, job_id)
    form = _form(found.form, response_format)
    if file is None and found.files > 1:
        if form.response_format not in ("json", "verbose_json"):
            raise BadRequestError(f"Name one 'file' for {form.response_format}; all together come as JSON.", "file")
        return StreamingResponse(_lines(core, tenant, job_id, form), media_type="application/x-ndjson")
    ask = core.jobs.partial if partial else core.jobs.transcript
    return await _rendered(core, await ask(found, file or 0), form)


@router.post("/{job_id}/cancel", responses=examples.CANCELLED)
async def cancel(core: CoreDep, tenant: TenantDep, job_id: str) -> JSONResponse:
    """Cancel a job; files that are transcribed already stay so."""
    return JSONResponse(job_document(await core.jobs.cancel(tenant, job_id), core.jobs.now()))


@router.post("/{job_id}/retry", status_code=202, responses=examples.RETRIED)
async def retry(core: CoreDep, tenant: TenantDep, job_id: str) -> JSONResponse:
    """Try again what failed or was cancelled."""
    return JSONResponse(job_document(await core.jobs.retry(tenant, job_id), core.jobs.now()), 202)


@router.delete("/{job_id}", responses=examples.DELETED)
async def delete(core: CoreDep, caller: CallerDep, job_id: str) -> JSONResponse:
    """Delete a job with its audio and its results, whatever its status."""
    await core.jobs.delete(caller.tenant, job_id, caller.name)
    return JSONResponse({"id": job_id, "object": "transcription.job", "deleted": True})


@router.get("/{job_id}/events", responses=examples.EVENTS)
async def events(
    core: CoreDep, tenant: TenantDep, job_id: str, last_event_id: Annotated[int, Header(ge=0, le=MOST_NUMBER)] = 0
) -> Response:
    """Stream what happens to a job; a client that reconnects with `Last-Event-ID` misses nothing."""
    await core.jobs.get(tenant, job_id)

    async def produce(emit: openai_rest.EmitText) -> None:
        try:
            async for event in core.jobs.events(tenant, job_id, last_event_id):
                await emit(event_frame(job_id, event))
        except NautilusError as error:
            await emit(errors.event(error))

    return EventStream(produce)


async def _received(request: Request, core: Core, arrival: Arrival) -> JobForm:
    """Read the body: files go where they lie, everything else is returned; a manifest may be long, so from a thread."""
    loop = asyncio.get_running_loop()
    if request.headers.get("content-type", "").startswith("application/json"):
        return await loop.run_in_executor(core.threads, _read_json, await _body(request))
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequestError("Send the files as multipart/form-data, or addresses as JSON.", "file")
    fields: list[tuple[str, str]] = []
    async for part in Parts(request):
        if part.file is not None and part.name in ("file", "file[]", "files", "files[]"):
            _check_count(arrival, core.jobs)
            await arrival.take(part.file, part.data)
        else:
            fields.append((part.name, await part.text(MAX_FIELD_BYTES)))
    return await loop.run_in_executor(core.threads, read_job_form, fields)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FIELD_BYTES:
            raise UploadTooLargeError(MAX_FIELD_BYTES)
    return bytes(body)


def _read_json(body: bytes) -> JobForm:
    try:
        said = read_json(body)
    except ValueError:
        raise BadRequestError("The body is no JSON in UTF-8, or nested too deeply.") from None
    if not isinstance(said, dict):
        raise BadRequestError("The body must be a JSON object.")
    return read_job_form(read_json_body(said))


def _check_count(arrival: Arrival, jobs: Jobs) -> None:
    if len(arrival.sources) >= jobs.limits.max_files:
        raise BadRequestError(f"A job may have {jobs.limits.max_files} files; send the rest as another one.", "file")


def _unquoted(key: str | None) -> str | None:
    """Return an idempotency key, quoted as the draft has it or not."""
    if key is None:
        return None
    bare = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not 0 < len(bare) <= 255:  # noqa: PLR2004 - as long as the column
        raise BadRequestError("Idempotency-Key must have 1 to 255 characters.", "Idempotency-Key")
    return bare


def _webhook_url(core: Core, given: str | None) -> str | None:
    return None if given is None else check_webhook_url(given, core.settings.webhooks, core.settings.outside)


def _form(fields: tuple[tuple[str, str], ...], wanted: Format | None) -> TranscriptionForm:
    """Return the form that a job was begun with, in the format that is wanted now."""
    if wanted is None:
        return read_form(fields)
    kept = [(name, value) for name, value in fields if name not in ("response_format", "include[]")]
    return read_form([*kept, ("response_format", wanted)])


async def _rendered(core: Core, transcript: Transcript, form: TranscriptionForm) -> Response:
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(core.threads, openai_rest.render, transcript, form)
    return Response(body, media_type=openai_rest.MEDIA_TYPES[form.response_format])


async def _lines(core: Core, tenant: str, job_id: str, form: TranscriptionForm) -> AsyncIterator[str]:
    found, loop = await core.jobs.get(tenant, job_id), asyncio.get_running_loop()
    async for file, transcript in core.jobs.transcripts(found):
        yield await loop.run_in_executor(core.threads, _line, file, transcript, form)


def _line(file: FileState, transcript: Transcript | None, form: TranscriptionForm) -> str:
    body = openai_rest.verbose if form.response_format == "verbose_json" else openai_rest.plain
    return openai_rest.dumps(file_document(file) | {"result": body(transcript, form) if transcript else None}) + "\n"
