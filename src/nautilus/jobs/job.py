"""What a job is, and how it may change.

    queued ──▶ processing ──▶ completed ──▶ expired
      │ ▲          │ └──────▶ failed ─────▶ expired
      │ └──retry───┼──────────┘
      └──cancel────┴────────▶ cancelled

A job has one file or many. It is completed when every file has ended and at least one well; failed when none did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from nautilus.errors import BadRequestError
from nautilus.traces.trace import Carrier

Status = Literal["queued", "processing", "completed", "failed", "cancelled", "expired"]
STATUSES: Final[tuple[Status, ...]] = ("queued", "processing", "completed", "failed", "cancelled", "expired")
OPEN: Final[tuple[Status, ...]] = ("queued", "processing")
"""There is still work to do."""

Importance = Literal["high", "normal", "low"]
PRIORITIES: Final[Mapping[Importance, int]] = {"high": 1, "normal": 2, "low": 3}

NO_TENANT: Final = "default"
"""Whose everything is where there are no keys."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds on jobs."""

    enabled: bool = True
    """Whether this server takes jobs and works on them."""
    at_once: int = 4
    """Jobs of all tenants that one server works on at once."""
    at_once_per_tenant: int = 2
    """Jobs of one tenant that all servers together work on at once."""
    files_at_once: int = 32
    """Files of one job that are heard at once."""
    files_beside_requests: int = 0
    """Files of one job that are begun at once while requests come, which are answered the sooner; 0: one for every two
    cores."""
    max_files: int = 10_000
    """Files in one job."""
    max_queued: int = 1000
    """Jobs of one tenant that wait or run; more are refused with 429."""
    upload_seconds: float = 24 * 3600.0
    """How long an upload waits for a job to take it."""
    max_uploads: int = 20_000
    """Uploads of one tenant that wait; more are refused with 429."""
    keep_seconds: float = 7 * 24 * 3600.0
    """How long results can be fetched after a job's end."""
    keep_audio: bool = False
    """Keep the audio as long as the results; otherwise it goes when its file is heard."""
    checkpoint_seconds: float = 5.0
    """How often a recording that takes longer writes down how far it came; a stop costs at most that much work."""
    patience: float = 3600.0
    """Seconds for which what may pass by itself (a full queue, a store that is away) is tried again."""
    poll_seconds: float = 0.5
    """How often a server looks for jobs that wait."""
    dead_after: float = 15.0
    """Seconds without a sign of life after which a server's jobs go to the others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job or a file failed."""

    code: str
    message: str

    def body(self) -> dict[str, str]:
        """Return it as it is stored and told."""
        return {"code": self.code, "message": self.message}

    @classmethod
    def read(cls, stored: Mapping[str, str] | None) -> "Fault | None":
        """Return what `body` was stored as."""
        return cls(stored["code"], stored["message"]) if stored else None


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a job that begins: sent with it (`blob`), uploaded before (`upload`), or to be fetched (`url`)."""

    name: str
    blob: str | None = None
    bytes: int | None = None
    digest: str | None = None
    """SHA-256 of the audio, in hexadecimal."""
    url: str | None = None
    upload: str | None = None
    """The id of an upload."""
    error: Fault | None = None
    """What is wrong with it already; it fails alone."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is asked for. `form` has the fields of a transcription request, as they were sent."""

    form: tuple[tuple[str, str], ...]
    metadata: Mapping[str, str]
    webhook_url: str | None = None
    priority: Importance = "normal"
    idempotency_key: str | None = None
    key: str | None = None
    """The id of the key that it came with."""
    fingerprint: str | None = None
    """Of all that was sent with the idempotency key."""
    trace: Carrier = field(default_factory=dict)
    """What names the request, for the traces of the job's runs."""


@dataclass(frozen=True, slots=True)
class FileState:
    """One file of a job."""

    number: int
    name: str
    status: Status
    url: str | None
    blob: str | None
    bytes: int | None
    digest: str | None
    seconds: float | None
    """Of audio, where known."""
    seconds_done: float
    error: Fault | None
    result: str | None
    checkpoint: dict[str, Any] | None
    tries: int
    """How often it was cut off, or could not be done in a way that may pass, since it last came further."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now."""

    id: str
    tenant: str
    status: Status
    priority: int
    form: tuple[tuple[str, str], ...]
    metadata: Mapping[str, str]
    webhook_url: str | None
    fingerprint: str | None
    files: int
    files_done: int
    files_failed: int
    seconds_total: float | None
    """Of audio in all files; None until all lengths are known."""
    seconds_done: float
    error: Fault | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    expires_at: float | None
    runs: int
    """How often it was begun, cancelled or queued again: the next one is another run."""
    key: str | None = None
    """The id of the key that it came with."""
    trace: Carrier = field(default_factory=dict)
    """What names the request that it came with."""

    @property
    def progress(self) -> float:
        """How much is done, from 0 to 1: by seconds of audio where they are known, otherwise by files."""
        if self.status not in OPEN:
            return 1.0 if self.status in ("completed", "expired") else self._share
        return min(0.999, self._share)

    @property
    def _share(self) -> float:
        if self.seconds_total:
            return min(1.0, self.seconds_done / self.seconds_total)
        return self.files_done / self.files

    def eta(self, now: float) -> float | None:
        """Return the seconds that are probably left, by the speed so far; None where nobody knows."""
        if self.status != "processing" or self.started_at is None or self._share <= 0:
            return None
        return (now - self.started_at) * (1 - self._share) / self._share


def check_metadata(pairs: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata that OpenAI's API would take: 16 pairs of at most 64 and 512 characters of text."""
    if len(pairs) > 16:  # noqa: PLR2004 - OpenAI's number
        raise BadRequestError(f"metadata has {len(pairs)} pairs; send at most 16.", "metadata")
    for key, value in pairs.items():
        if not isinstance(value, str) or len(key) > 64 or len(value) > 512:  # noqa: PLR2004
            raise BadRequestError(
                f"metadata takes names of up to 64 and texts of up to 512 characters; '{key[:64]}' is other.",
                "metadata",
            )
    return dict(pairs)
