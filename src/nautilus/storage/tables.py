"""The tables: what they hold and what a column means. Times are seconds since 1970; ids are text that sorts by age.

Everything that belongs to somebody has a `tenant`; every query for a caller names it.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OptionalJson: Final = JSON(none_as_null=True)
"""Where there is nothing, there is NULL and not JSON's `null`."""

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("status", String(16), nullable=False),  # see jobs/job.py
    Column("priority", Integer, nullable=False),  # 1 goes before 2
    Column("request", JSON, nullable=False),  # the transcription form
    Column("meta", JSON, nullable=False),  # the caller's own pairs
    Column("webhook_url", Text),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),  # of what came with the idempotency key
    Column("files", Integer, nullable=False),
    Column("files_done", Integer, nullable=False, default=0),  # completed or failed
    Column("files_failed", Integer, nullable=False, default=0),
    Column("seconds_total", Float),  # of audio, where known
    Column("seconds_done", Float, nullable=False, default=0.0),
    Column("error", OptionalJson),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("expires_at", Float),  # when results go
    Column("key", String(64)),  # the id of the key that it came with
    Column("runs", Integer, nullable=False, default=0),  # how often it was begun: an older run may not write any more
    Column("trace", OptionalJson),  # the headers that name the request it came with, if that was traced
    UniqueConstraint("tenant", "idempotency_key"),
    Index("ix_jobs_tenant_created", "tenant", "created_at", "id"),
    Index("ix_jobs_status", "status", "expires_at"),
)

job_files: Final = Table(
    "job_files",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("url", Text),  # where it is to be fetched from, if it was not sent
    Column("blob", Text),  # where the audio lies, while it does
    Column("bytes", BigInteger),
    Column("digest", String(64)),  # SHA-256 of the audio
    Column("status", String(16), nullable=False),
    Column("seconds", Float),  # of audio, where known
    Column("seconds_done", Float, nullable=False, default=0.0),
    Column("error", OptionalJson),
    Column("result", Text),  # the blob of its transcript
    Column("checkpoint", OptionalJson),  # how far a long recording came
    Column("tries", Integer, nullable=False, default=0),  # in vain since it last came further
    Index("ix_job_files_status", "job", "status", "number"),
    Index("ix_job_files_blob", "blob"),  # to find what a blob belongs to
    Index("ix_job_files_result", "result"),
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", JSON, nullable=False),
    Index("ix_job_events_at", "at"),
)

deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", String(64), primary_key=True),  # the webhook-id, the same in every attempt
    Column("tenant", String(64), nullable=False),
    Column("job", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", String(16), nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),
    Column("error", Text),
    Column("created_at", Float, nullable=False),
    Column("delivered_at", Float),
    Column("trace", OptionalJson),  # of the job
    Index("ix_deliveries_due", "status", "due_at"),
    Index("ix_deliveries_tenant", "tenant", "created_at"),
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

servers: Final = Table(
    "servers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("place", Text, nullable=False),  # the machine it runs on
    Column("pid", Integer, nullable=False),
    Column("version", String(64), nullable=False),
    Column("seen_at", Float, nullable=False),
)

cached: Final = Table(
    "cached",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("digest", String(64), primary_key=True),  # of audio, model and options
    Column("blob", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("used_at", Float, nullable=False),
    Index("ix_cached_used", "used_at"),
)

requests: Final = Table(
    "requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request", String(128), nullable=False),  # its x-request-id, or the job's id
    Column("at", Float, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("key", String(64)),
    Column("kind", String(16), nullable=False),  # request, stream, job
    Column("model", Text, nullable=False),
    Column("seconds", Float, nullable=False),  # of audio
    Column("latency", Float, nullable=False),
    Column("status", Integer, nullable=False),
    Index("ix_requests_tenant_at", "tenant", "at"),
    Index("ix_requests_at", "at"),
)

audit: Final = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(64), nullable=False),  # a key's id, or what of the server did it
    Column("action", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Index("ix_audit_at", "at"),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", String(16), nullable=False, unique=True),  # of the key, to find it by
    Column("digest", String(64), nullable=False),  # of the whole key
    Column("scopes", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("used_at", Float),
    Index("ix_keys_tenant", "tenant"),
)
