"""What `/docs` shows of jobs, uploads, webhooks and usage."""

from typing import Any, Final, TypeAlias

from nautilus.types import LEVELS
from nautilus.web.examples import ERRORS, answer, error, text
from nautilus.web.schemas import ref
from nautilus.wire.forms import FORMATS

Responses: TypeAlias = dict[int | str, dict[str, Any]]

_ID: Final = "job_019f04c2a1b35d0c8e7f6a5b4c3d2e1f00"
_QUEUED: Final = {
    "id": _ID,
    "object": "transcription.job",
    "status": "queued",
    "progress": 0.0,
    "priority": "normal",
    "position": 0,
    "eta_seconds": None,
    "audio": {"seconds_done": 0.0, "seconds_total": None},
    "files": {"total": 1, "completed": 0, "failed": 0},
    "created_at": 1795456800,
    "started_at": None,
    "completed_at": None,
    "expires_at": None,
    "error": None,
    "metadata": {"case": "17"},
}
_RUNNING: Final = _QUEUED | {
    "status": "processing",
    "progress": 0.42,
    "position": None,
    "eta_seconds": 38.5,
    "audio": {"seconds_done": 1512.0, "seconds_total": 3600.0},
    "started_at": 1795456801,
}
_FILE: Final = {
    "id": 0,
    "object": "transcription.job.file",
    "name": "meeting.mp3",
    "url": None,
    "status": "processing",
    "seconds": 3600.0,
    "seconds_done": 1512.0,
    "error": None,
}
_EVENT: Final = (
    "id: 3\nevent: transcription.job.progress\n"
    f'data: {{"type":"transcription.job.progress","job":"{_ID}","at":1795456812.5,"progress":0.42,'
    '"seconds_done":1512.0,"seconds_total":3600.0,"files_done":0,"files_failed":0}\n\n'
)
_UPLOAD: Final = "upload_019f04c2a1b35d0c8e7f6a5b4c3d2e1f00"
_LETTER: Final = {
    "id": "msg_4b1f0c8e7f6a5b4c3d2e1f004b1f0c8e",
    "object": "webhook.delivery",
    "status": "dead",
    "job": _ID,
    "url": "https://example.org/hooks",
    "attempts": 10,
    "error": "The receiver answered 500. That was attempt 10, the last.",
    "created_at": 1795456900,
}
_TOTAL: Final = {
    "day": "2026-11-23",
    "tenant": "default",
    "key": None,
    "model": "nautilus-en-4m",
    "requests": 128,
    "failed": 2,
    "seconds": 5120.4,
}


def _json(description: str, schema: str, example: Any, status: int = 200, **errors: Any) -> Responses:
    """Return a JSON answer with an example, and the refusals that go with it."""
    refusals: Responses = {int(name.removeprefix("e")): one for name, one in errors.items()}
    return {status: answer(description, ref(schema), example), **refusals}


def _page(example: dict[str, Any]) -> dict[str, Any]:
    first_last = {"first_id": example["id"], "last_id": example["id"]}
    return {"object": "list", "data": [example], **first_last, "has_more": False}


def _refusal(description: str, message: str, code: str, param: str | None = "id") -> dict[str, Any]:
    return {"description": description} | error(message, code, param)


_NO_JOB: Final = _refusal(
    "No such job of yours.", "There is no job x. GET /v1/audio/transcriptions/jobs lists yours.", "job_not_found"
)
_CONFLICT: Final = _refusal(
    "The job's status forbids it.", "The job is completed already; there is nothing to cancel.", "job_conflict", None
)
_GONE: Final = _refusal(
    "The result has expired.", "The result has expired and was deleted; send the audio as a new job.", "result_gone"
)
_NO_UPLOAD: Final = _refusal(
    "No such upload waits.", "No upload x waits: it is unknown, has expired, or a job has taken it.", "upload_not_found"
)
_NO_LETTER: Final = _refusal(
    "No such webhook.", "No webhook x can be sent again: it is unknown, or on its way already.", "delivery_not_found"
)
_FULL: Final = {"description": "You have had your share for now; see Retry-After."} | error(
    "1000 jobs wait or run already; send more when some are done.", "rate_limit_exceeded", None, "rate_limit_error"
)

SUBMITTED: Final = _json(
    "The job, accepted: it is not lost any more. `Location` is its address.", "Job", _QUEUED, 202
) | {
    400: ERRORS[400],
    404: ERRORS[404],
    409: _refusal("The Idempotency-Key was used for another request.", "Choose a new one.", "job_conflict", None),
    413: ERRORS[413],
    429: _FULL,
    503: ERRORS[503],
}
JOBS: Final = _json("A page of jobs.", "Jobs", _page(_RUNNING), e404=_NO_JOB)
JOB: Final = _json("The job.", "Job", _RUNNING, e404=_NO_JOB)
FILES: Final = _json("A page of the job's files.", "JobFiles", _page(_FILE), e404=_NO_JOB)
RESULT: Final[Responses] = {
    200: {
        "description": "The transcript; of many files, JSON lines in their order.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [ref("Text"), ref("VerboseText")]},
                "example": {"text": "good morning", "usage": {"type": "duration", "seconds": 2}},
            },
            "text/plain": text("good morning"),
            "application/x-subrip": text("1\n00:00:00,240 --> 00:00:01,040\ngood morning\n"),
            "text/vtt": text("WEBVTT\n\n00:00:00.240 --> 00:00:01.040\ngood morning\n"),
            "application/x-ndjson": text('{"id":0,"name":"a.mp3","status":"completed","result":{"text":"…"}}\n'),
        },
    },
    404: _NO_JOB,
    409: _refusal("There is no result yet.", "The file is queued; its result is not there yet.", "job_conflict", None),
    410: _GONE,
}
CANCELLED: Final = _json(
    "The job as it is now.", "Job", _RUNNING | {"status": "cancelled"}, e404=_NO_JOB, e409=_CONFLICT
)
RETRIED: Final = _json("The job, queued again.", "Job", _QUEUED, 202, e404=_NO_JOB, e409=_CONFLICT)
DELETED: Final = _json(
    "It is gone.", "Deleted", {"id": _ID, "object": "transcription.job", "deleted": True}, e404=_NO_JOB
)
EVENTS: Final[Responses] = {
    200: {
        "description": "Server-sent events, until the job has ended.",
        "content": {"text/event-stream": {"example": _EVENT}},
    },
    404: _NO_JOB,
}
UPLOAD_BEGUN: Final = _json(
    "PUT the recording to `url` as the body, then name the `id` in a job.",
    "Upload",
    {
        "id": _UPLOAD,
        "object": "upload",
        "name": "meeting.mp4",
        "method": "PUT",
        "url": f"http://127.0.0.1:8000/v1/uploads/{_UPLOAD}",
        "expires_at": 1795543200,
    },
    201,
    e429=_FULL,
)
UPLOADED: Final = _json(
    "It is there.",
    "Upload",
    {"id": _UPLOAD, "object": "upload", "name": "meeting.mp4", "bytes": 734003200, "expires_at": 1795543200},
    e404=_NO_UPLOAD,
    e413=ERRORS[413],
)
UPLOAD_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
LETTERS: Final = _json("A page of webhooks that were given up.", "Deliveries", _page(_LETTER))
REDELIVERED: Final = _json(
    "It is on its way.",
    "Delivery",
    {"id": _LETTER["id"], "object": "webhook.delivery", "status": "pending"},
    202,
    e404=_NO_LETTER,
)
USAGE: Final = _json(
    "Totals by day, key and model.",
    "Usage",
    {"object": "list", "since": "2026-10-24", "until": "2026-11-23", "data": [_TOTAL]},
)

REQUEST: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "example": {
                    "url": ["https://example.org/meeting.mp3"],
                    "model": "whisper-1",
                    "metadata": {"case": "17"},
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "url": {"type": "array", "items": {"type": "string"}},
                        "upload": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Ids of uploads, from POST /v1/uploads.",
                        },
                        "manifest": {
                            "type": "string",
                            "description": 'JSON lines: {"url": …, "name": …} or {"upload": …, "name": …}',
                        },
                        "model": {"type": "string", "default": "whisper-1"},
                        "language": {"type": "string"},
                        "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": ["word", "segment"]},
                        },
                        "keywords[]": {"type": "array", "items": {"type": "string"}},
                        "preprocess": {"type": "string", "enum": list(LEVELS)},
                        "channel": {"type": "integer", "minimum": 0},
                        "cache": {"type": "boolean", "default": True},
                        "metadata": {"type": "string", "description": "A JSON object of your own."},
                        "webhook_url": {"type": "string"},
                        "priority": {"type": "string", "enum": ["high", "normal", "low"], "default": "normal"},
                    },
                }
            },
        },
    }
}
"""A job's request."""
