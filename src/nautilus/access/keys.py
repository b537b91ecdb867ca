"""API keys as values: made, recognised, and what they allow. No I/O.

nau_<prefix>_<secret>    prefix: 8 characters to find the key by; secret: 256 random bits, base64url

Only the SHA-256 of the whole key is kept. A fast digest is right here: what has 256 random bits is not guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError

from nautilus.access.settings import Limits
from nautilus.errors import BadRequestError, UnauthorizedError

Scope: TypeAlias = Literal["transcribe", "stream", "jobs", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
USUAL_SCOPES: Final[tuple[Scope, ...]] = ("transcribe", "stream", "jobs")
"""What a key may that was made without saying; scopes include no others."""

NO_LIMITS: Final = Limits()
NO_TENANT: Final = "default"
"""Whose everything is on a server that asks for no keys."""
TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What tenants may be called: their names become parts of paths."""
MOST_NAME: Final = 200
LEAST_KEY: Final = 16
"""Characters of keys that operators think of themselves."""

_KEY: Final = re.compile(r"nau_([A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}")
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_LIMITS: Final = TypeAdapter(Limits)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: what is shown once, and what is kept."""

    value: str
    prefix: str
    digest: str


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is known; times are seconds since 1970."""

    id: str
    tenant: str
    name: str
    prefix: str
    digest: str
    scopes: tuple[Scope, ...]
    limits: Mapping[str, float]
    """Its own; what it does not say is as the settings have it."""
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Return whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def matches(self, value: str) -> bool:
        """Return whether this is the key `value`; takes as long whatever differs."""
        return hmac.compare_digest(self.digest.encode(), digest(value).encode())


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    tenant: str = NO_TENANT
    key: str | None = None
    """The key's id; None on a server that asks for none."""
    scopes: frozenset[Scope] = frozenset(USUAL_SCOPES)
    limits: Limits = NO_LIMITS

    @property
    def name(self) -> str:
        """What is counted for a key is counted under this."""
        return self.key or f"tenant:{self.tenant}"


def make_key() -> NewKey:
    """Return a new key."""
    prefix = "".join(secrets.choice(_LETTERS) for _ in range(8))
    value = f"nau_{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(value, prefix, digest(value))


def digest(value: str) -> str:
    """Return what is kept of a key: SHA-256, as hexadecimal digits."""
    return hashlib.sha256(value.encode()).hexdigest()


def prefix_of(value: str) -> str | None:
    """Return what a key is found by; None if it can't be one that we made."""
    found = _KEY.fullmatch(value)
    return found[1] if found else None


def caller(key: Key, usual: Limits, now: float) -> Caller:
    """Return whom a key speaks for. Raises UnauthorizedError for one that has ended."""
    if not key.is_valid(now):
        raise UnauthorizedError
    return Caller(key.tenant, key.id, frozenset(key.scopes), with_own(usual, key.limits))


def with_own(usual: Limits, own: Mapping[str, float]) -> Limits:
    """Return the limits of a key that has some of its own."""
    values = {field.name: getattr(usual, field.name) for field in fields(Limits)}
    return Limits(**(values | {name: value for name, value in own.items() if name in values}))


def check_scopes(given: Iterable[str]) -> tuple[Scope, ...]:
    """Return scopes, in order and each once. Raises BadRequestError."""
    asked = set(given)
    if not asked or asked - set(SCOPES):
        raise BadRequestError(f"scopes must be some of {', '.join(SCOPES)}.", "scopes")
    return tuple(scope for scope in SCOPES if scope in asked)


def check_tenant(given: str) -> str:
    """Return a tenant's name. Raises BadRequestError."""
    if not TENANT.fullmatch(given):
        raise BadRequestError("tenant must have 1 to 64 letters, digits, '.', '_' or '-', no sign first.", "tenant")
    return given


def check_name(given: str) -> str:
    """Return a key's name. Raises BadRequestError."""
    if not given.strip() or len(given) > MOST_NAME or not given.isprintable():
        raise BadRequestError(f"name must have 1 to {MOST_NAME} printable characters.", "name")
    return given


def check_limits(given: Any) -> dict[str, float]:
    """Return limits of a key's own, only those that are given. Raises BadRequestError."""
    known = [field.name for field in fields(Limits)]
    if not isinstance(given, dict) or set(given) - set(known):
        raise BadRequestError(f"limits must be an object of {', '.join(known)}.", "limits")
    try:
        checked = asdict(_LIMITS.validate_python(given))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequestError(f"limits.{first['loc'][0]}: {first['msg']}.", "limits") from None
    return {name: checked[name] for name in given}
