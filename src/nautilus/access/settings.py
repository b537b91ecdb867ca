"""What an operator can change about who may do what, and how much of it."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr

from nautilus.errors import ConfigurationError

UNSET: Final = SecretStr("")
MOST: Final = 10**15
"""What every place that counts can count to, Redis among them."""
Count = Annotated[int, Field(ge=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask the server."""

    required: bool = False
    """Ask every caller for a key, on the loopback too: for servers behind a proxy on the same machine."""
    open: bool = False
    """Ask nobody for a key, whatever address the server listens on: for networks in which everybody may."""
    keys: SecretStr = UNSET
    """Keys beside those of the database: a JSON list of `{"key" or "sha256", "name", "tenant", "scopes", "limits"}`."""
    keys_file: Path | None = None
    """A file of such a list instead; it is read at start."""
    metrics: Literal["public", "admin"] = "public"
    """Whether anybody may read `/metrics`, or only keys with the scope `admin`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one key may ask for, where it has no limits of its own; 0: as much as it likes."""

    requests_per_minute: Count = 0
    """Requests and new live streams of one key in a minute; 0: any number."""
    audio_seconds_per_minute: Seconds = 0
    """Seconds of audio of one tenant in a minute; 0: any number."""
    audio_seconds_per_day: Seconds = 0
    """Seconds of audio of one tenant in a day; 0: any number."""
    concurrent_requests: Count = 0
    """Requests that bring something, by one key, at once; 0: any number."""
    streams: Count = 0
    """Live streams of one key at once; 0: any number."""
    queued_jobs: Count = 0
    """Jobs of one tenant that wait or run; 0: as many as `NAUTILUS_JOBS__MAX_QUEUED`."""
    upload_bytes: Count = 0
    """Largest request body; 0: as large as `NAUTILUS_MAX_UPLOAD_BYTES`, which nothing exceeds."""


@dataclass(frozen=True, slots=True)
class LimitSettings(Limits):
    """Limits of keys that have none of their own, and where is counted."""

    redis_url: SecretStr = UNSET
    """`redis://[:password@]host:port/number` to count in, for all servers together; empty: each counts for itself."""
    redis_down: Literal["open", "closed"] = "open"
    """When Redis can't be reached: `open` lets everybody in, uncounted; `closed` answers 503."""


def keys_required(settings: AccessSettings, host: str) -> bool:
    """Return whether callers need keys on a server that listens on `host`. Raises ConfigurationError."""
    has_keys = bool(settings.keys.get_secret_value() or settings.keys_file)
    if settings.open and (settings.required or has_keys):
        raise ConfigurationError(
            "NAUTILUS_ACCESS__OPEN=true asks nobody for a key; leave it out, or NAUTILUS_ACCESS__REQUIRED and …__KEYS."
        )
    return not settings.open and (settings.required or has_keys or not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
