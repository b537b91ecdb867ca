"""Short-lived client secrets: signed and not stored, so that any server with the same key knows them.

ek_<payload>.<signature>    payload: base64 of JSON, when it expires, what it was made with and for whom
"""

import base64
import binascii
import hmac
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nautilus.access.keys import Caller
from nautilus.errors import UnauthorizedError

PREFIX: Final = "ek_"


@dataclass(frozen=True, slots=True)
class Secret:
    """What a client gets."""

    value: str
    expires_at: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a secret carries."""

    content: dict[str, Any]
    tenant: str
    key: str | None
    """The id of the key that asked for it."""


class ClientSecrets:
    """Makes secrets and reads them again."""

    def __init__(self, key: str, now: Callable[[], float] = time.time) -> None:
        self._key = key.encode() or os.urandom(32)
        self._now = now

    def mint(self, content: Mapping[str, Any], seconds: int, caller: Caller) -> Secret:
        """Return a secret that carries `content`, readable by its owner, for a caller's streams, valid so long."""
        expires_at = int(self._now()) + seconds
        nonce = base64.b64encode(os.urandom(9)).decode()
        payload = _encode(_json([expires_at, nonce, content, caller.tenant, caller.key]))
        return Secret(f"{PREFIX}{payload}.{self._sign(payload)}", expires_at)

    def read(self, value: str) -> Granted:
        """Return what a secret carries. Raises UnauthorizedError."""
        payload, _, signature = value.removeprefix(PREFIX).partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            raise UnauthorizedError
        try:
            expires_at, _, content, tenant, key = json.loads(
                base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
            )
        except (ValueError, binascii.Error):  # signed, but not as here
            raise UnauthorizedError from None
        if expires_at <= self._now():
            raise UnauthorizedError
        return Granted(content, tenant, key)

    def _sign(self, payload: str) -> str:
        return _encode(hmac.digest(self._key, payload.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _json(values: list[Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
