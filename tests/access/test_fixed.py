"""Keys of the settings."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nautilus.access.fixed import read_keys
from nautilus.access.keys import digest
from nautilus.access.settings import AccessSettings
from nautilus.errors import ConfigurationError

KEY = "a-key-of-the-operator"


def given(*keys: Any) -> AccessSettings:
    return AccessSettings(keys=SecretStr(json.dumps(keys)))


def test_a_key_is_given_itself_or_as_its_digest() -> None:
    plain = read_keys(given({"key": KEY, "name": "ci", "tenant": "acme", "scopes": ["jobs"], "limits": {"streams": 1}}))
    hashed = read_keys(given({"sha256": digest(KEY)}))
    assert list(plain) == list(hashed) == [digest(KEY)]
    (key,) = plain.values()
    assert (key.name, key.tenant, key.scopes, key.limits) == ("ci", "acme", ("jobs",), {"streams": 1})
    (usual,) = hashed.values()
    assert (usual.id, usual.tenant, usual.scopes) == (key.id, "default", ("transcribe", "stream", "jobs"))


def test_keys_come_from_a_file_as_well(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([{"key": KEY}]))
    assert list(read_keys(AccessSettings(keys_file=file))) == [digest(KEY)]
    with pytest.raises(ConfigurationError, match="not both"):
        read_keys(AccessSettings(keys=SecretStr("[]"), keys_file=file))
    with pytest.raises(ConfigurationError, match="KEYS_FILE cannot be read"):
        read_keys(AccessSettings(keys_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["a string that is a key"],
        [{"key": KEY}, {"sha256": digest(KEY)}],
        [{"key": "short"}],
        [{"key": "with spaces in the middle"}],
        [{"key": KEY, "sha256": digest(KEY)}],
        [{"name": "no key"}],
        [{"sha256": "abc"}],
        [{"key": KEY, "scope": ["jobs"]}],
        [{"key": KEY, "scopes": "jobs"}],
        [{"key": KEY, "scopes": ["everything"]}],
        [{"key": KEY, "tenant": "../other"}],
        [{"key": KEY, "limits": {"streams": -1}}],
    ],
)
def test_a_mistake_is_named_and_shows_no_key(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match="NAUTILUS_ACCESS__KEYS") as caught:
        read_keys(given(*keys))
    assert KEY not in str(caught.value)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="JSON list"):
        read_keys(AccessSettings(keys=SecretStr(KEY)))
