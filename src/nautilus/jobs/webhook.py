"""Telling somebody's server that a job has ended: what is sent, how it is signed, what comes after an attempt. No I/O.

Standard Webhooks (https://www.standardwebhooks.com): an id that stays; a time and a signature that are new each time.

    pending ──2xx──▶ delivered
     │   ▲ └──410, address refused, ten attempts──▶ dead ──redeliver──▶ pending
     └───┘ anything else: again, later and later
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from pydantic import SecretStr

from nautilus.errors import UnsupportedError
from nautilus.outside.address import parse
from nautilus.outside.limits import OutsideLimits

SCHEDULE: Final = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds before each attempt, from the one before: three days and some in all."""
JITTER: Final = 0.1
"""Share of a wait that is added by chance, so that not all come back at once."""
LARGEST: Final = 20_000
"""Bytes of a body."""
PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_GONE: Final = 410

Ending: TypeAlias = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """How webhooks are signed and sent."""

    secrets: tuple[SecretStr, ...] = ()
    """Sign webhooks: a JSON list of secrets, each `whsec_` and 24 to 64 random bytes in base64. All of them sign, so
    list the new and the old one while you change them. Without any, jobs may not name a `webhook_url`."""
    timeout: float = 15.0
    """Seconds that a receiver has to answer."""
    at_once: int = 16
    """Webhooks that one server sends at the same time."""
    at_once_per_host: int = 4
    """Of these to one host; to one that is failing it is one."""
    poll_seconds: float = 5.0
    """Seconds between two looks for webhooks that other servers left."""

    def __post_init__(self) -> None:
        for number, secret in enumerate(self.secrets, 1):
            if len(_key(secret) or b"") not in _SECRET_BYTES:
                raise ValueError(f"secret {number} is not {PREFIX} and 24 to 64 bytes in base64")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered."""

    status: int
    retry_after: float | None = None
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why no answer came."""

    reason: str
    final: bool = False
    """Whether another attempt is no use."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """It arrived."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It will be sent again."""

    at: float
    """Seconds since 1970."""
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It is given up, until somebody asks for it."""

    reason: str


Outcome: TypeAlias = Delivered | Retry | Dead


def check_webhook_url(text: str, settings: WebhookSettings, limits: OutsideLimits) -> str:
    """Return the URL that a job names as it is kept. Raises UnsupportedError without secrets, AddressRefusedError."""
    if not settings.secrets:
        raise UnsupportedError(
            "This server sends no webhooks, because it has no secret to sign them with. "
            "Leave webhook_url out, or have its operator set NAUTILUS_WEBHOOKS__SECRETS.",
            "webhook_url",
        )
    return str(parse(text, limits, "webhook_url"))


def payload(ending: Ending, job: Mapping[str, Any], at: float) -> str:
    """Return the body that tells of a job's end, in at most LARGEST bytes: too large metadata is left out.

    `job` must be JSON and small but for its "metadata"; `at` is when it ended. Raises ValueError.
    """
    body = _body(ending, job, at)
    if len(body.encode()) > LARGEST:
        body = _body(ending, {name: value for name, value in job.items() if name != "metadata"}, at)
    if len(body.encode()) > LARGEST:
        raise ValueError(f"a webhook's body may have {LARGEST} bytes")
    return body


def sign(secrets: Sequence[SecretStr], message_id: str, timestamp: int, body: str) -> str:
    """Return the `webhook-signature` of a message, one for each secret. Raises ValueError for a malformed secret."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    return " ".join(f"v1,{_base64(hmac.digest(_need_key(secret), signed, 'sha256'))}" for secret in secrets)


def headers(secrets: Sequence[SecretStr], message_id: str, timestamp: int, body: str) -> dict[str, str]:
    """Return what an attempt carries beside its body."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id, timestamp, body),
    }


def after(attempt: int, result: Answer | Fault, now: float, chance: float = 0.0) -> Outcome:
    """Return what follows from an attempt, counted from 1. `chance` is between 0 and 1.

    A redirect is no delivery: the address was agreed upon, and a secret's signature is for that one.
    """
    if isinstance(result, Answer) and result.status // 100 == 2:  # noqa: PLR2004 - success
        return Delivered()
    reason = result.reason if isinstance(result, Fault) else f"The receiver answered {result.status}."
    if isinstance(result, Fault) and result.final:
        return Dead(reason)
    if isinstance(result, Answer) and result.status == _GONE:
        return Dead("The receiver answered 410: it wants no more of these.")
    if attempt >= len(SCHEDULE):
        return Dead(f"{reason} That was attempt {attempt}, the last.")
    asked = result.retry_after or 0.0 if isinstance(result, Answer) else 0.0
    wait = max(SCHEDULE[attempt] * (1 + JITTER * chance), asked)
    return Retry(now + wait, reason)


def is_failing(result: Answer | Fault) -> bool:
    """Whether an attempt speaks against the whole host, not only against one of its URLs."""
    return isinstance(result, Fault) or result.status == 429 or result.status >= 500  # noqa: PLR2004 - HTTP's words


def _body(ending: Ending, job: Mapping[str, Any], at: float) -> str:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = {"type": f"transcription.job.{ending}", "timestamp": when, "data": dict(job)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # half of a character, which JSON can carry, has no bytes


def _need_key(secret: SecretStr) -> bytes:
    key = _key(secret)
    if not key:
        raise ValueError(f"a secret must be {PREFIX} and base64")
    return key


def _key(secret: SecretStr) -> bytes | None:
    """Return a secret's bytes; None if it is malformed."""
    text = secret.get_secret_value()
    if not text.startswith(PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
