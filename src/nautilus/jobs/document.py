"""Jobs as callers see them. Times are whole seconds since 1970."""

import json
from collections.abc import Sequence
from typing import Any

from nautilus.jobs.job import PRIORITIES, FileState, Job
from nautilus.jobs.records import Event


def job_document(job: Job, now: float, position: int | None = None, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Return a job's document; `position` is how many go before it."""
    eta = job.eta(now)
    body = {
        "id": job.id,
        "object": "transcription.job",
        "status": job.status,
        "progress": round(job.progress, 4),
        "priority": next(name for name, number in PRIORITIES.items() if number == job.priority),
        "position": position,
        "eta_seconds": None if eta is None else round(eta, 1),
        "audio": {"seconds_done": round(job.seconds_done, 3), "seconds_total": _rounded(job.seconds_total)},
        "files": {"total": job.files, "completed": job.files_done - job.files_failed, "failed": job.files_failed},
        "created_at": _whole(job.created_at),
        "started_at": _whole(job.started_at),
        "completed_at": _whole(job.completed_at),
        "expires_at": _whole(job.expires_at),
        "error": job.error.body() if job.error else None,
        "metadata": dict(job.metadata),
    }
    return body | ({"warnings": list(warnings)} if warnings else {})


def file_document(file: FileState) -> dict[str, Any]:
    """Return the document of one of a job's files."""
    return {
        "id": file.number,
        "object": "transcription.job.file",
        "name": file.name,
        "url": file.url,
        "status": file.status,
        "seconds": file.seconds,
        "seconds_done": round(file.seconds_done, 3),
        "error": file.error.body() if file.error else None,
    }


def page_document(documents: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """Return a page of documents in OpenAI's shape."""
    first, last = (documents[0]["id"], documents[-1]["id"]) if documents else (None, None)
    return {"object": "list", "data": list(documents), "first_id": first, "last_id": last, "has_more": has_more}


def event_frame(job: str, event: Event) -> str:
    """Return a server-sent event."""
    body = {"type": f"transcription.job.{event.kind}", "job": job, "at": round(event.at, 3), **event.data}
    return f"id: {event.number}\nevent: {body['type']}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
