"""`POST /v1/audio/transcriptions`, `/v1/audio/translations` and our own `/transcribe`."""

import asyncio
from contextlib import closing
from dataclasses import dataclass, replace
from typing import BinaryIO

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from nautilus.assembly import Core
from nautilus.errors import BadRequestError, DeadlineError, NautilusError, UnsupportedError
from nautilus.hearing import Piece, Task
from nautilus.traces.trace import span
from nautilus.types import Transcript
from nautilus.web import errors, examples
from nautilus.web.bill import Bill, billed
from nautilus.web.deps import CoreDep, claim_of
from nautilus.web.disconnect import ClientGoneError, EventStream, answered
from nautilus.web.multipart import Parts
from nautilus.web.usage import Used, noted
from nautilus.wire import native, openai_rest
from nautilus.wire.forms import TranscriptionForm, read_form

router = APIRouter(tags=["transcription"])

MAX_FIELD_BYTES = 16 * 1024**2
"""Of one text field; data URLs may be long."""
MAX_PARTS = 1000
LONG = 120.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A form and its file, which whoever read it closes."""

    form: TranscriptionForm
    file: BinaryIO


@router.post("/v1/audio/transcriptions", openapi_extra=examples.TRANSCRIPTION, responses=examples.TRANSCRIBED)
async def transcribe(request: Request, core: CoreDep) -> Response:
    """Transcribe a recording, as OpenAI's API does. `stream=true` answers with server-sent events."""
    upload = await read_upload(request, core)
    if upload.form.stream:
        return _streamed(request, upload, core)
    with closing(upload.file):
        transcript = await _hear(request, core, upload, _task(request, core, upload))
    if transcript is None:
        return Response(status_code=errors.CLIENT_GONE)
    body = await _rendered(transcript, upload.form, core)
    return Response(
        body,
        media_type=openai_rest.MEDIA_TYPES[upload.form.response_format],
        headers=_warning_header(upload.form.warnings + transcript.warnings),
    )


@router.post("/v1/audio/translations", openapi_extra=examples.TRANSLATION, responses=examples.TRANSCRIBED)
async def translate(request: Request, core: CoreDep) -> Response:
    """Translate a recording to English, where the model can (Canary models do)."""
    upload = await read_upload(request, core)
    with closing(upload.file):
        transcript = await _hear(request, core, upload, _task(request, core, upload, translate_to="en"))
    if transcript is None:
        return Response(status_code=errors.CLIENT_GONE)
    body = await _rendered(replace(transcript, language="en"), upload.form, core)
    return Response(body, media_type=openai_rest.MEDIA_TYPES[upload.form.response_format])


@router.post("/transcribe", openapi_extra=examples.NATIVE, responses=examples.TOLD)
async def transcribe_natively(request: Request, core: CoreDep) -> Response:
    """Transcribe a recording into Nautilus's own document: words with confidence, audio facts, timings, warnings."""
    upload = await read_upload(request, core)
    if upload.form.stream:
        raise UnsupportedError("stream is for /v1/audio/transcriptions; leave it out here.", "stream")
    with closing(upload.file):
        transcript = await _hear(request, core, upload, core.offer.task(upload.form, claim_of(request)))
    if transcript is None:
        return Response(status_code=errors.CLIENT_GONE)
    with span("render"):
        return JSONResponse(native.document(transcript, upload.form.warnings))


async def read_upload(request: Request, core: Core) -> Upload:
    """Read a multipart form. Raises BadRequestError if it is none or lacks the file."""
    with span("receive"):
        return await _read_upload(request, core)


async def _read_upload(request: Request, core: Core) -> Upload:
    fields: list[tuple[str, str]] = []
    files: list[BinaryIO] = []
    try:
        async for part in Parts(request, at_most=MAX_PARTS):
            if part.file is None:
                fields.append((part.name, await part.text(MAX_FIELD_BYTES)))
            elif part.name == "file":
                _check_first(files)
                files.append(await part.spooled(core.threads))
        return Upload(read_form(fields), _only(files))
    except BaseException:
        for file in files:
            file.close()
        raise


def _check_first(files: list[BinaryIO]) -> None:
    """Refuse a second file before it is read."""
    if files:
        raise BadRequestError("Send one file in a request; several files are several requests.", "file")


def _only(files: list[BinaryIO]) -> BinaryIO:
    if not files:
        raise BadRequestError("Send the recording as the form field 'file'.", "file")
    return files[0]


def _task(request: Request, core: Core, upload: Upload, translate_to: str | None = None) -> Task:
    """Return what is to be done for an answer in OpenAI's forms, which have no place for the bandwidth."""
    return core.offer.task(upload.form, claim_of(request), translate_to, bandwidth=False)


async def _hear(request: Request, core: Core, upload: Upload, task: Task) -> Transcript | None:
    """Return the transcript; None if the client has gone."""
    try:
        with noted(request, core, "request", task.model) as used:
            transcript = await _answered(request, core, upload, task)
            used.seconds = transcript.audio.duration
            return transcript
    except ClientGoneError:
        return None


async def _answered(request: Request, core: Core, upload: Upload, task: Task) -> Transcript:
    seconds = core.settings.request_timeout
    try:
        with billed(request, core) as bill:
            async with asyncio.timeout(seconds):
                transcript = await answered(request, core.pipeline.transcribe(upload.file, task, bill.note))
            bill.seconds = transcript.audio.duration
            return transcript
    except TimeoutError:
        raise DeadlineError(seconds) from None


async def _rendered(transcript: Transcript, form: TranscriptionForm, core: Core) -> str:
    """Render a transcript; a long one in a thread, as subtitles of hours take half a second."""
    with span("render", {"nautilus.response_format": form.response_format}):
        if transcript.audio.duration <= LONG:
            return openai_rest.render(transcript, form)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(core.threads, openai_rest.render, transcript, form)


class _Told:
    """What a client of a stream is told."""

    def __init__(self, emit: openai_rest.EmitText, form: TranscriptionForm, used: Used, bill: Bill) -> None:
        self._emit = emit
        self._form = form
        self._used = used
        self._bill = bill
        self._first = True

    async def tell(self, piece: Piece) -> None:
        """Tell the words of a window."""
        self._used.seconds = piece.seconds_done
        await self._bill.note(piece)
        if piece.words:
            await self._emit(openai_rest.delta(piece.words, self._form, first=self._first))
            self._first = False

    async def fail(self, error: NautilusError) -> None:
        """Tell why there is no more."""
        self._used.status = errors.status_of(error)
        await self._emit(errors.event(error))


def _streamed(request: Request, upload: Upload, core: Core) -> Response:
    form = upload.form
    task = _task(request, core, upload)

    async def produce(emit: openai_rest.EmitText) -> None:
        with closing(upload.file), noted(request, core, "request", task.model) as used, billed(request, core) as bill:
            told = _Told(emit, form, used, bill)
            try:
                async with asyncio.timeout(core.settings.request_timeout):
                    transcript = await core.pipeline.transcribe(upload.file, task, told.tell)
                used.seconds = bill.seconds = transcript.audio.duration
                await emit(openai_rest.done(transcript, form))
            except TimeoutError:
                await told.fail(DeadlineError(core.settings.request_timeout))
            except NautilusError as error:
                await told.fail(error)

    return EventStream(produce, _warning_header(form.warnings))


def _warning_header(warnings: tuple[str, ...]) -> dict[str, str]:
    """Tell warnings to clients of formats that have no place for them."""
    text = " ".join(warnings).encode("ascii", "replace").decode()
    return {"x-nautilus-warning": " ".join(text.split())[:1000]} if warnings else {}
