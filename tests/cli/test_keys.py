"""`nautilus keys`, and the server that refuses to start without any."""

import json
import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from nautilus.access.keys import prefix_of
from nautilus.access.settings import AccessSettings
from nautilus.cli import app
from nautilus.cli.serve import run_server
from nautilus.errors import ConfigurationError
from nautilus.settings import Settings
from nautilus.storage.settings import StorageSettings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_STORAGE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")


def nautilus(*words: str) -> Result:
    return CliRunner().invoke(app, ["keys", *words])


def listed(*words: str) -> list[dict[str, object]]:
    return list(json.loads(nautilus("list", "--json", *words).stdout))


def test_a_key_is_made_listed_replaced_and_ended() -> None:
    made = nautilus("create", "ci", "--tenant", "acme", "-s", "jobs", "-s", "transcribe", "-l", "streams=2")
    assert (made.exit_code, prefix_of(made.stdout.strip()) is not None) == (0, True)
    (key,) = listed()
    assert (key["name"], key["tenant"], key["status"], key["expires_at"]) == ("ci", "acme", "valid", None)
    assert (key["scopes"], key["limits"]) == (["transcribe", "jobs"], {"streams": 2})
    assert made.stdout.startswith(str(key["prefix"]))
    rotated = nautilus("rotate", str(key["id"]), "--grace", "0h")
    assert rotated.exit_code == 0
    assert rotated.stdout != made.stdout
    assert [one["status"] for one in listed()] == ["expired", "valid"]
    new = listed()[1]
    assert nautilus("revoke", str(new["id"])).exit_code == 0
    assert [one["status"] for one in listed("--tenant", "acme")] == ["expired", "revoked"]
    assert listed("--tenant", "globex") == []
    table = nautilus("list").stdout
    assert re.search(rf"{new['id']} .*{new['prefix']}_… .*ci .*acme .*transcribe jobs .*revoked .*never", table)


def test_a_key_may_end_by_itself() -> None:
    nautilus("create", "short", "--expires", "12h")
    (key,) = listed()
    assert int(str(key["expires_at"])) - int(str(key["created_at"])) == 12 * 3600


@pytest.mark.parametrize(
    "words",
    [
        ("create", "a", "--scope", "root"),
        ("create", "a", "--tenant", "a/b"),
        ("create", "a", "--limit", "streams"),
        ("create", "a", "--expires", "soon"),
        ("create", ""),
        ("revoke", "key_none"),
        ("rotate", "key_none"),
        ("rotate", "key_none", "--grace", "1"),
    ],
)
def test_a_mistake_is_told(words: tuple[str, ...]) -> None:
    done = nautilus(*words)
    assert (done.exit_code, done.stdout, "Error:" in done.stderr) == (1, "", True)
    assert listed() == []


def test_without_a_key_no_server_listens_for_others(tmp_path: Path, settings: Settings) -> None:
    storage = StorageSettings(data_dir=tmp_path / "data")
    outside = settings.model_copy(update={"host": "0.0.0.0", "storage": storage})  # noqa: S104 - that is the point
    with pytest.raises(ConfigurationError, match=r"nautilus keys create.*NAUTILUS_ACCESS__OPEN=true"):
        run_server(outside)
    both = AccessSettings(open=True, keys=SecretStr('[{"key": "a-key-of-the-operator"}]'))
    with pytest.raises(ConfigurationError, match="NAUTILUS_ACCESS__OPEN"):
        run_server(outside.model_copy(update={"access": both}))
