"""The one table from our errors to HTTP, and OpenAI's shape for everything that goes wrong.

4xx messages say what to change. 5xx messages are generic with an error id; details go to the log only.
"""

import uuid
from dataclasses import dataclass
from math import ceil
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException  # noqa: TID251 - to answer the framework's own, never to raise
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from nautilus import errors
from nautilus.wire import openai_rest
from nautilus.wire.openai_rest import error_body

log = structlog.get_logger(__name__)

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NOT_ALLOWED: Final = 405
CLIENT_GONE: Final = 499
"""The status of what its client did not wait for, as nginx has it."""


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of errors looks on the wire."""

    status: int
    kind: str
    """OpenAI's `error.type`."""
    public: bool = True
    """Whether the message is for the caller's eyes."""


TABLE: Final[dict[type[errors.NautilusError], Row]] = {
    errors.NautilusError: Row(500, "server_error", public=False),
    errors.BadRequestError: Row(400, "invalid_request_error"),
    errors.BadAudioError: Row(400, "invalid_request_error"),
    errors.AudioTooShortError: Row(400, "invalid_request_error"),
    errors.AudioTooLongError: Row(413, "invalid_request_error"),
    errors.UploadTooLargeError: Row(413, "invalid_request_error"),
    errors.HeadTooLargeError: Row(431, "invalid_request_error"),
    errors.BodyTooSlowError: Row(408, "invalid_request_error"),
    errors.OriginRefusedError: Row(403, "invalid_request_error"),
    errors.HostRefusedError: Row(403, "invalid_request_error"),
    errors.AddressRefusedError: Row(400, "invalid_request_error"),
    errors.FetchRefusedError: Row(400, "invalid_request_error"),
    errors.IdleError: Row(400, "invalid_request_error"),
    errors.UnreadError: Row(400, "invalid_request_error"),
    errors.SessionGoneError: Row(404, "invalid_request_error"),
    errors.UnauthorizedError: Row(401, "invalid_request_error"),
    errors.ForbiddenError: Row(403, "invalid_request_error"),
    errors.KeyNotFoundError: Row(404, "invalid_request_error"),
    errors.UnsupportedError: Row(400, "invalid_request_error"),
    errors.UnknownModelError: Row(404, "invalid_request_error"),
    errors.JobNotFoundError: Row(404, "invalid_request_error"),
    errors.UploadNotFoundError: Row(404, "invalid_request_error"),
    errors.DeliveryNotFoundError: Row(404, "invalid_request_error"),
    errors.JobConflictError: Row(409, "invalid_request_error"),
    errors.ResultGoneError: Row(410, "invalid_request_error"),
    errors.LimitError: Row(429, "rate_limit_error"),
    errors.OverloadedError: Row(503, "server_error"),
    errors.FetchError: Row(502, "server_error"),
    errors.NotReadyError: Row(503, "server_error"),
    errors.DeadlineError: Row(504, "server_error"),
    errors.StorageError: Row(503, "server_error", public=False),
    errors.ConfigurationError: Row(500, "server_error", public=False),
    errors.ModelLoadError: Row(503, "server_error", public=False),
    errors.EngineError: Row(500, "server_error", public=False),
    errors.ModelDiedError: Row(500, "server_error", public=False),
}
"""Every class of errors has a row: a test walks the tree."""


def install(app: FastAPI) -> None:
    """Answer every failure of `app` in OpenAI's shape."""
    app.exception_handler(errors.NautilusError)(_expected)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(ClientDisconnect)(_gone)


def event(error: errors.NautilusError) -> str:
    """Return the server-sent event that ends a stream with a failure."""
    row = _row(error)
    message = str(error) if row.public else _withheld(error)
    return openai_rest.event(openai_rest.error_body(error, row.kind, message))


def status_of(error: errors.NautilusError) -> int:
    """Return HTTP's number for an error."""
    return _row(error).status


def response(error: errors.NautilusError) -> JSONResponse:
    """Return the answer that an error stands for."""
    row = _row(error)
    message = str(error) if row.public else _withheld(error)
    headers = {}
    if retry_after := getattr(error, "retry_after", None):
        headers["Retry-After"] = str(max(1, ceil(retry_after)))
    if isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.DeadlineError):
        headers["x-should-retry"] = "false"
    if isinstance(error, errors.BodyTooSlowError):
        headers["Connection"] = "close"  # nobody reads the rest
    return JSONResponse(error_body(error, row.kind, message), row.status, headers)


def unexpected(error: Exception) -> JSONResponse:
    """Return the answer to a failure that nobody foresaw."""
    return JSONResponse(error_body(errors.NautilusError(), "server_error", _withheld(error)), 500)


def _row(error: errors.NautilusError) -> Row:
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def _withheld(error: Exception) -> str:
    """Log an error and return a message that tells only where to look."""
    error_id = uuid.uuid4().hex[:12]
    log.error("request failed", error_id=error_id, exc_info=error)
    return f"The server could not answer this request. Quote error id {error_id} to its operator."


async def _expected(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, errors.NautilusError)  # noqa: S101 - registered for that class only
    return response(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for that class only
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    return response(errors.BadRequestError(f"{where}: {first['msg']}.", where))


async def _http(request: Request, error: Exception) -> JSONResponse:
    """Answer the framework's own refusals: no such path, wrong method, a body that is no form."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for that class only
    path = request.url.path[:200]
    known = {
        404: f"There is no {request.method} {path}. See /docs for what there is.",
        NOT_ALLOWED: f"{path} does not take {request.method}. See /docs for what it takes.",
    }
    refused = errors.BadRequestError(known.get(error.status_code, str(error.detail)))
    body = error_body(refused, "invalid_request_error", str(refused))
    headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == NOT_ALLOWED else error.headers
    return JSONResponse(body, error.status_code, headers)


async def _gone(request: Request, error: Exception) -> Response:
    """Answer nobody: the client hung up in the middle of its request."""
    del request, error
    return Response(status_code=CLIENT_GONE)


def _allowed(request: Request) -> list[str]:
    """Return the methods that a path takes: the framework names those of the first route that has it."""
    routes = request.app.routes
    return [
        method
        for method in METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
