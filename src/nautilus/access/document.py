"""A key as it is shown: everything but what opens doors."""

from typing import Any

from nautilus.access.keys import Key


def key_document(key: Key, now: float) -> dict[str, Any]:
    """Return what there is to know about a key; `prefix` tells it from others. Times are seconds since 1970."""
    status = "revoked" if key.revoked_at is not None else "valid" if key.is_valid(now) else "expired"
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "tenant": key.tenant,
        "prefix": f"nau_{key.prefix}",
        "scopes": list(key.scopes),
        "limits": dict(key.limits),
        "status": status,
        "created_at": int(key.created_at),
        "expires_at": _whole(key.expires_at),
        "revoked_at": _whole(key.revoked_at),
        "used_at": _whole(key.used_at),
    }


def _whole(at: float | None) -> int | None:
    return None if at is None else int(at)
