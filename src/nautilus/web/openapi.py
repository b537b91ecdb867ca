"""The OpenAPI document, made whole: who may ask, how every refusal looks, and none that never comes."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from nautilus.web.access import needed
from nautilus.web.examples import error
from nautilus.web.schemas import SCHEMAS

Document = dict[str, Any]

SCHEMES: Final[Document] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or for live streams a client secret."},
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Token KEY`, as Deepgram's clients say it.",
    },
}
WITH_KEY: Final[list[Document]] = [{"bearer": []}, {"token": []}]
NOT_OURS: Final = ("HTTPValidationError", "ValidationError")
"""FastAPI's own refusals, which we answer with 400 in OpenAI's shape."""
FRAMEWORK: Final = "422"


def _refusal(description: str, message: str, code: str, kind: str = "invalid_request_error") -> Document:
    return {"description": description} | error(message, code, None, kind)


REFUSALS: Final[dict[str, Document]] = {
    "400": _refusal("The request must be changed; the message says how.", "limit: Input should be …", "bad_request"),
    "401": _refusal("There is no valid key.", "The API key or client secret is missing, …", "invalid_api_key"),
    "403": _refusal("The key, or the page that asks, may not do this.", "This key lacks the scope …", "forbidden"),
    "408": _refusal("The body comes too slowly.", "Of the body, only 512 bytes came in 60 s; …", "body_too_slow"),
    "413": _refusal("Too many bytes.", "The request is larger than 1073741824 bytes; …", "upload_too_large"),
    "429": _refusal(
        "You have had your share for now; see Retry-After.",
        "This key may send 60 requests a minute; …",
        "rate_limit_exceeded",
        "rate_limit_error",
    ),
    "500": _refusal(
        "A fault of the server; its log has the error id.",
        "The server could not answer this request. Quote error id … to its operator.",
        "internal_error",
        "server_error",
    ),
    "503": _refusal("Not just now; see Retry-After.", "Too many requests are waiting; …", "overloaded", "server_error"),
    "504": _refusal(
        "It took too long.", "The request was given up after 3600 s; …", "deadline_exceeded", "server_error"
    ),
}
"""By status: what any request may be answered with."""
ALWAYS: Final = ("403", "500")
OF_KEYS: Final = ("401", "429", "503")
OF_BODIES: Final = ("400", "408", "413")


def describe(app: FastAPI, *, required: bool) -> Callable[[], Document]:
    """Return what takes the place of `app.openapi`; `required` says whether the server asks for keys."""
    plain = app.openapi

    def document() -> Document:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain(), required=required)
        return app.openapi_schema

    return document


def _completed(document: Document, *, required: bool) -> Document:
    parts = document.setdefault("components", {})
    schemas = {name: schema for name, schema in parts.get("schemas", {}).items() if name not in NOT_OURS}
    parts |= {"schemas": schemas | SCHEMAS, "responses": REFUSALS, "securitySchemes": SCHEMES}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            need = needed(path)
            is_open = need == "public"
            operation["security"] = [] if is_open else WITH_KEY + ([] if required or need == "admin" else [{}])
            _refuse(operation, keyed=not is_open)
    return document


def _refuse(operation: Document, *, keyed: bool) -> None:
    """Name every refusal that an operation may be answered with and does not describe itself."""
    answers = operation["responses"]
    statuses = {*ALWAYS, *(OF_KEYS if keyed else ()), *(OF_BODIES if "requestBody" in operation else ())}
    if answers.pop(FRAMEWORK, None):
        statuses.add("400")
    for status in sorted(statuses - set(answers)):
        answers[status] = {"$ref": f"#/components/responses/{status}"}
