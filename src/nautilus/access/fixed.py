"""Keys from the environment or a file, for installations that need no database of them."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from nautilus.access.keys import (
    LEAST_KEY,
    NO_TENANT,
    USUAL_SCOPES,
    Key,
    check_limits,
    check_name,
    check_scopes,
    check_tenant,
    digest,
)
from nautilus.access.settings import AccessSettings
from nautilus.errors import BadRequestError, ConfigurationError

KNOWN: Final = frozenset({"key", "sha256", "name", "tenant", "scopes", "limits"})
SETTING: Final = "NAUTILUS_ACCESS__KEYS"


def read_keys(settings: AccessSettings) -> Mapping[str, Key]:
    """Return the keys of the settings by their digests. Raises ConfigurationError, which shows none."""
    given = settings.keys.get_secret_value()
    setting = SETTING
    if settings.keys_file is not None:
        if given:
            raise ConfigurationError(f"Set {SETTING} or {SETTING}_FILE, not both.")
        setting = f"{SETTING}_FILE"
        try:
            given = settings.keys_file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{setting} cannot be read: {error}") from error
    elif not given:
        return {}
    return _parse(given, setting)


def _parse(given: str, setting: str) -> dict[str, Key]:
    try:
        listed = json.loads(given)
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError(f'{setting} must be a JSON list of keys: [{{"key": "…", "name": "…"}}].')
    keys: dict[str, Key] = {}
    for place, one in enumerate(listed, 1):
        try:
            key = _key(one)
        except BadRequestError as error:
            raise ConfigurationError(f"{setting}, key {place}: {error}") from None
        if key.digest in keys:
            raise ConfigurationError(f"{setting}, key {place}: it is there twice.")
        keys[key.digest] = key
    return keys


def _key(given: Any) -> Key:
    if not isinstance(given, dict) or set(given) - KNOWN:
        raise BadRequestError(f"a key is an object of {', '.join(sorted(KNOWN))}")
    hashed = _digest(given)
    scopes = given.get("scopes", list(USUAL_SCOPES))
    if not isinstance(scopes, list):
        raise BadRequestError("scopes must be a list")
    return Key(
        id=f"key_{digest(hashed)[:24]}",
        tenant=check_tenant(str(given.get("tenant", NO_TENANT))),
        name=check_name(str(given.get("name", "from the settings"))),
        prefix="",
        digest=hashed,
        scopes=check_scopes(map(str, scopes)),
        limits=check_limits(given.get("limits", {})),
    )


def _digest(given: Mapping[str, Any]) -> str:
    key, hashed = given.get("key"), given.get("sha256")
    if (key is None) == (hashed is None):
        raise BadRequestError("give 'key' or 'sha256'")
    if hashed is not None:
        if not re.fullmatch(r"[0-9a-f]{64}", str(hashed)):
            raise BadRequestError("sha256 must have 64 hexadecimal digits, small letters")
        return str(hashed)
    if not isinstance(key, str) or len(key) < LEAST_KEY or not re.fullmatch(r"[\x21-\x7e]+", key):
        raise BadRequestError(f"'key' must have at least {LEAST_KEY} characters of ASCII without spaces")
    return digest(key)
