"""What answers look like, as JSON Schema: the components of the OpenAPI document. Clients must bear further fields."""

from typing import Any, Final, TypeAlias

from nautilus.access.keys import SCOPES
from nautilus.jobs.job import PRIORITIES, STATUSES

Schema: TypeAlias = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
NUMBER: Final[Schema] = {"type": "number"}
WHOLE: Final[Schema] = {"type": "integer"}
FLAG: Final[Schema] = {"type": "boolean"}
ANYTHING: Final[Schema] = {"type": "object"}


def ref(name: str) -> Schema:
    """Return what stands for a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*words: str) -> Schema:
    """Return the schema of a closed set of words."""
    return {"type": "string", "enum": list(words)}


def many(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Return the schema of what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def record(**fields: Schema) -> Schema:
    """Return the schema of an object that has all of these fields."""
    return {"type": "object", "required": list(fields), "properties": fields}


def also(schema: Schema, **fields: Schema) -> Schema:
    """Return an object's schema with fields that it may have besides."""
    return schema | {"properties": schema["properties"] | fields}


def page(of: str) -> Schema:
    """Return the schema of a page of a list."""
    ids = {name: maybe({"type": ["string", "integer"]}) for name in ("first_id", "last_id")}
    return record(object=one_of("list"), data=many(ref(of)), **ids, has_more=FLAG)


_FAULT: Final = maybe(record(code=TEXT, message=TEXT))
_USAGE: Final = record(type=one_of("duration"), seconds=NUMBER)
_WARNINGS: Final = many(TEXT)
_TIMES: Final = {"start": NUMBER, "end": NUMBER}

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": record(error=record(message=TEXT, type=TEXT, param=maybe(TEXT), code=TEXT)),
    "Text": also(record(text=TEXT, usage=_USAGE), languages=many(record(code=TEXT)), warnings=_WARNINGS),
    "VerboseText": also(
        record(task=one_of("transcribe"), language=TEXT, duration=NUMBER, text=TEXT, usage=_USAGE),
        segments=many(record(id=WHOLE, text=TEXT, **_TIMES)),
        words=many(record(word=TEXT, **_TIMES)),
        warnings=_WARNINGS,
    ),
    "Transcript": record(
        text=TEXT,
        language=maybe(TEXT),
        model=TEXT,
        segments=many(record(text=TEXT, **_TIMES)),
        words=many(record(word=TEXT, confidence=NUMBER, **_TIMES)),
        audio=record(duration=NUMBER, sample_rate=WHOLE, channels=WHOLE, container=TEXT, codec=TEXT),
        timings=ANYTHING,
        warnings=_WARNINGS,
    ),
    "Job": also(
        record(
            id=TEXT,
            object=one_of("transcription.job"),
            status=one_of(*STATUSES),
            progress=NUMBER,
            priority=one_of(*PRIORITIES),
            position=maybe(WHOLE),
            eta_seconds=maybe(NUMBER),
            audio=record(seconds_done=NUMBER, seconds_total=maybe(NUMBER)),
            files=record(total=WHOLE, completed=WHOLE, failed=WHOLE),
            created_at=WHOLE,
            started_at=maybe(WHOLE),
            completed_at=maybe(WHOLE),
            expires_at=maybe(WHOLE),
            error=_FAULT,
            metadata={"type": "object", "additionalProperties": TEXT},
        ),
        warnings=_WARNINGS,
    ),
    "JobFile": record(
        id=WHOLE,
        object=one_of("transcription.job.file"),
        name=TEXT,
        url=maybe(TEXT),
        status=one_of(*STATUSES),
        seconds=maybe(NUMBER),
        seconds_done=NUMBER,
        error=_FAULT,
    ),
    "Upload": also(
        record(id=TEXT, object=one_of("upload"), name=TEXT, expires_at=WHOLE),
        method=one_of("PUT"),
        url=TEXT,
        bytes=WHOLE,
    ),
    "Delivery": also(
        record(id=TEXT, object=one_of("webhook.delivery"), status=one_of("dead", "pending")),
        job=TEXT,
        url=TEXT,
        attempts=WHOLE,
        error=maybe(TEXT),
        created_at=WHOLE,
    ),
    "Deleted": record(id=TEXT, object=TEXT, deleted=FLAG),
    "Usage": record(
        object=one_of("list"),
        since=TEXT,
        until=TEXT,
        data=many(
            record(day=TEXT, tenant=TEXT, key=maybe(TEXT), model=TEXT, requests=WHOLE, failed=WHOLE, seconds=NUMBER)
        ),
    ),
    "Model": record(id=TEXT, object=one_of("model"), created=WHOLE, owned_by=TEXT),
    "Key": also(
        record(
            id=TEXT,
            object=one_of("key"),
            name=TEXT,
            tenant=TEXT,
            prefix=TEXT,
            scopes=many(one_of(*SCOPES)),
            limits=ANYTHING,
            status=one_of("valid", "expired", "revoked"),
            created_at=WHOLE,
            expires_at=maybe(WHOLE),
            revoked_at=maybe(WHOLE),
            used_at=maybe(WHOLE),
        ),
        key=TEXT,
    ),
    "Secret": also(ANYTHING | {"properties": {}}, value=TEXT, expires_at=WHOLE, session=ANYTHING),
    "Health": also(record(status=one_of("alive", "starting", "loading", "ready", "stopping")), model=TEXT),
    "Jobs": page("Job"),
    "JobFiles": page("JobFile"),
    "Deliveries": page("Delivery"),
    "Models": record(object=one_of("list"), data=many(ref("Model"))),
    "Keys": record(object=one_of("list"), data=many(ref("Key"))),
}
"""By name."""
