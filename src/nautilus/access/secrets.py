"""Short-lived client secrets: signed and not stored, so that any server with the same key knows them.

ek_<payload>.<signature>    payload: base64 of JSON, when it expires and what it was made with
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

from nautilus.errors import UnauthorizedError

PREFIX: Final = "ek_"


@dataclass(frozen=True, slots=True)
class Secret:
    """What a client gets."""

    value: str
    expires_at: int
    """Seconds since 1970."""


class ClientSecrets:
    """Makes secrets and reads them again."""

    def __init__(self, key: str, now: Callable[[], float] = time.time) -> None:
        self._key = key.encode() or os.urandom(32)
        self._now = now

    def mint(self, content: Mapping[str, Any], seconds: int) -> Secret:
        """Return a secret that carries `content`, readable by its owner, and is valid so long."""
        expires_at = int(self._now()) + seconds
        nonce = base64.b64encode(os.urandom(9)).decode()
        payload = _encode(json.dumps([expires_at, nonce, content], separators=(",", ":")).encode())
        return Secret(f"{PREFIX}{payload}.{self._sign(payload)}", expires_at)

    def read(self, value: str) -> dict[str, Any]:
        """Return what a secret carries. Raises UnauthorizedError."""
        payload, _, signature = value.removeprefix(PREFIX).partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            raise UnauthorizedError
        try:
            expires_at, _, content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (ValueError, binascii.Error):  # signed, but not as here
            raise UnauthorizedError from None
        if expires_at <= self._now():
            raise UnauthorizedError
        return dict(content)

    def _sign(self, payload: str) -> str:
        return _encode(hmac.digest(self._key, payload.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
