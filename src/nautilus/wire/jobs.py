"""The fields of a job → what is to be done; a manifest → its rows.

A job takes the fields of a transcription and a few of its own. JSON bodies say the same: lists become repeated fields.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nautilus.errors import BadRequestError
from nautilus.wire.forms import TranscriptionForm, read_form
from nautilus.wire.untrusted import read_json

OWN: Final = frozenset({"url", "upload", "manifest", "metadata", "webhook_url", "priority"})


@dataclass(frozen=True, slots=True)
class Row:
    """One file that a job names: by address, or by the id of an upload."""

    name: str
    url: str | None = None
    upload: str | None = None
    error: str | None = None
    """What is wrong with the row."""


@dataclass(frozen=True, slots=True)
class JobForm:
    """A job's fields, without the files that came with it."""

    form: TranscriptionForm
    fields: tuple[tuple[str, str], ...]
    """The transcription's fields as they were sent, to be read again when the job runs."""
    rows: tuple[Row, ...]
    metadata: Mapping[str, Any]
    webhook_url: str | None
    priority: str


def read_job_form(given: Iterable[tuple[str, str]]) -> JobForm:
    """Read a job's text fields. Raises BadRequestError or UnsupportedError that names the field and the fix."""
    fields: list[tuple[str, str]] = []
    own: dict[str, list[str]] = {}
    metadata: dict[str, Any] = {}
    for name, value in given:
        base, bracket, key = name.partition("[")
        if base == "metadata" and bracket:
            metadata[key.rstrip("]")] = value
        elif base == "metadata":
            metadata |= _object(value)
        elif base in OWN:
            own.setdefault(base, []).append(value)
        else:
            fields.append((name, value))
    form = read_form(fields)
    if form.stream:
        raise BadRequestError("A job can't be streamed; GET its /events instead.", "stream")
    rows = [Row(_file_name(url), url=url) for url in own.get("url", [])]
    rows += [Row(upload, upload=upload) for upload in own.get("upload", [])]
    for manifest in own.get("manifest", []):
        rows += read_manifest(manifest)
    priority = (own.get("priority") or ["normal"])[-1]
    if priority not in ("high", "normal", "low"):
        raise BadRequestError(f"priority must be high, normal or low, not '{priority[:50]}'.", "priority")
    webhook_url = (own.get("webhook_url") or [""])[-1] or None
    return JobForm(form, tuple(fields), tuple(rows), metadata, webhook_url, priority)


def read_json_body(body: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Give the fields that a JSON body stands for."""
    for name, value in body.items():
        if isinstance(value, Mapping):
            yield name, json.dumps(value)
        elif isinstance(value, list):
            for item in value:
                yield (name, json.dumps(item) if isinstance(item, dict) else _text(item))
        elif value is not None:
            yield name, _text(value)


def read_manifest(text: str) -> list[Row]:
    """Read JSON lines, each with `url` or `upload`, and maybe `name`. A bad line becomes a row that fails alone."""
    return [_row(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _row(number: int, line: str) -> Row:
    name = f"line {number}"
    try:
        said = read_json(line)
    except ValueError:
        return Row(name, error=f"Line {number} of the manifest is not JSON.")
    if not isinstance(said, dict):
        return Row(name, error=f"Line {number} of the manifest is no JSON object.")
    url, upload = said.get("url", said.get("audio_filepath")), said.get("upload")
    if not isinstance(url, str) and not isinstance(upload, str):
        return Row(name, error=f"Line {number} of the manifest has neither 'url' nor 'upload'.")
    if isinstance(upload, str):
        return Row(str(said.get("name", upload)), upload=upload)
    return Row(str(said.get("name", _file_name(str(url)))), url=str(url))


def _object(value: str) -> dict[str, Any]:
    try:
        read = read_json(value or "{}")
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise BadRequestError('metadata must be a JSON object, such as {"case": "17"}.', "metadata")
    return read


def _file_name(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rpartition("/")[2][:200] or url[:200]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
