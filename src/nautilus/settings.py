"""Environment (`NAUTILUS_…`) and `.env`-style file → one frozen `Settings`.

Nested groups are the rooms' own limits: `NAUTILUS_BATCH__MAX_ITEMS=8` sets `BatchLimits.max_items`.
"""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nautilus.access.settings import AccessSettings, LimitSettings
from nautilus.audio.sandbox import DecodeLimits
from nautilus.errors import ConfigurationError
from nautilus.hearing import AudioLimits
from nautilus.jobs.job import JobLimits
from nautilus.jobs.webhook import WebhookSettings
from nautilus.observe import LogFormat
from nautilus.outside.limits import OutsideLimits
from nautilus.runtime.pool import PoolLimits
from nautilus.runtime.queue import BatchLimits
from nautilus.storage.settings import StorageSettings
from nautilus.stream.session import StreamLimits
from nautilus.traces.settings import TraceSettings
from nautilus.types import Level

PREFIX = "NAUTILUS_"
OF_CLIENTS = frozenset({"NAUTILUS_API_KEY", "NAUTILUS_URL"})
"""What commands read that talk to a server, such as `nautilus jobs`."""
OPENAI_NAMES = ("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")


def _from_json(given: Any) -> Any:
    """Return what a variable of the environment means: pydantic-settings reads no JSON inside of dataclasses."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        raise ValueError(f'{given} is no JSON list: write it like ["https://app.example"]') from None


@dataclass(frozen=True, slots=True)
class Cors:
    """Which web pages of others may ask the server from a browser."""

    origins: Annotated[tuple[str, ...], BeforeValidator(_from_json)] = ()
    """Origins, as a JSON list, whose pages may ask: `["https://app.example"]`, or `["*"]` for all. Usually none may."""
    max_age: int = 600
    """Seconds for which a browser may remember what it was allowed."""

    def __post_init__(self) -> None:
        for origin in self.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError(f"{origin!r} is no origin: write https://host or https://host:port, and no path")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What connections may take their time with."""

    head_seconds: float = 15.0
    """Seconds for the head of a request, from its first byte or from the connection."""
    head_bytes: int = 64 * 1024
    """Largest head of a request."""
    body_idle: float = 60.0
    """Seconds for which nothing of a body may come."""
    body_rate: float = 500.0
    """Bytes a second that a body must bring on average, once it has been waited for that long; 0: any."""
    unread: float = 60.0
    """Seconds for which a client may read nothing of what it is told."""
    message_bytes: int = 16 * 1024**2
    """Largest message of a live stream."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_from_json)] = ()
    """Names, as a JSON list, by which clients may call the server; `["*"]`: any. Empty: any, but those of the loopback
    alone where it listens there and asks for no keys."""


class Settings(BaseSettings):
    """Everything an operator can change."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""
    model: str = "embedded"
    """The default model: `embedded`, a name on the hub, a bundle folder or a `.nemo` file. Loaded at start."""
    models: tuple[str, ...] = ()
    """Further models that requests may name, as a JSON list. Installed ones may be named without being listed."""
    aliases: tuple[str, ...] = OPENAI_NAMES
    """Names, as a JSON list, that mean the default model; clients hard-code these."""
    final_model: str | None = None
    """A model that hears each live utterance once more when it is over; what it hears is final. Loaded at start."""
    models_dir: Path = Path("~/.cache/nautilus/models")
    """Where fetched models lie."""
    cache_dir: Path = Path("~/.cache/nautilus")
    """Where measurements of this machine are remembered."""
    offline: bool = False
    """Never ask the hub."""
    preprocess: Level = "auto"
    """Cleaning of recordings whose request does not say: none, low, medium, high or auto."""
    max_upload_bytes: int = Field(default=1024**3, gt=0)
    """Largest request body."""
    request_timeout: float = Field(default=3600.0, gt=0)
    """Seconds after which an unanswered transcription request is given up with 504."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """Seconds that running requests get to finish when the server is told to stop."""
    client_secret_key: SecretStr = SecretStr("")
    """Signs the client secrets of `/v1/realtime`; give all servers behind one address the same. Random if empty."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_format: LogFormat = "auto"
    """json, text, or auto: text on a terminal."""
    cors: Cors = Cors()
    """Web pages of other origins."""
    http: HttpLimits = HttpLimits()
    """Connections of clients."""
    access: AccessSettings = AccessSettings()
    """Who may ask."""
    limits: LimitSettings = LimitSettings()
    """How much keys may ask for that have no limits of their own."""
    audio: AudioLimits = AudioLimits()
    """Bounds on recordings."""
    decode: DecodeLimits = DecodeLimits()
    """Bounds on decoding."""
    batch: BatchLimits = BatchLimits()
    """Bounds on batches and on the queue before the model."""
    stream: StreamLimits = StreamLimits()
    """Bounds on live streams."""
    pool: PoolLimits = PoolLimits()
    """How many models stay in memory."""
    storage: StorageSettings = StorageSettings()
    """Where things lie."""
    jobs: JobLimits = JobLimits()
    """Bounds on jobs."""
    outside: OutsideLimits = OutsideLimits()
    """Bounds on what is asked of addresses that callers name."""
    webhooks: WebhookSettings = WebhookSettings()
    """How webhooks are signed and sent."""
    traces: TraceSettings = TraceSettings()
    """Where the time of requests goes, told to a collector of traces."""

    @model_validator(mode="before")
    @classmethod
    def read_lists(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Read lists inside groups, which are JSON: pydantic-settings does it for groups that are its own models."""
        for name, group in given.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(group, dict) and is_dataclass(default) and not isinstance(default, type):
                lists = {inner.name for inner in fields(default) if isinstance(getattr(default, inner.name), tuple)}
                for inner in lists & group.keys():
                    with suppress(TypeError, ValueError):  # what is no JSON is refused by its name later
                        group[inner] = json.loads(group[inner])
        return given


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (the command line) win. Raises ConfigurationError naming the variable."""
    _refuse_unknown(os.environ)
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error
    return settings.model_copy(
        update={
            "models_dir": settings.models_dir.expanduser(),
            "cache_dir": settings.cache_dir.expanduser(),
        }
    )


def _refuse_unknown(names: Iterable[str]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name for name in names if name.startswith(PREFIX) and name.split("__")[0] not in known and not _is_ours(name)
    )
    if unknown:
        raise ConfigurationError(f"Unknown setting {', '.join(unknown)}. `nautilus config` lists the known ones.")


def _is_ours(name: str) -> bool:
    """Say whether a variable is no setting of a server: of commands that talk to one, and of the tests."""
    return name in OF_CLIENTS or name.startswith(f"{PREFIX}TEST_")


def _explain(error: ValidationError) -> str:
    problems = (
        f"{PREFIX}{'__'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
        for problem in error.errors()
    )
    return "; ".join(problems)
