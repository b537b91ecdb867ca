"""Commands that talk to a server which asks for keys."""

import json
import subprocess
import sys
from collections.abc import Iterator
from os import environ
from pathlib import Path

import pytest
from pydantic import SecretStr

from nautilus.access.settings import AccessSettings
from nautilus.cli.options import authorization
from nautilus.errors import BadRequestError
from nautilus.settings import Settings
from tests.conftest import running
from tests.web.clips import SPEECH
from tests.web.test_stream import HEARD

KEY = "the-operator-s-own-key"


@pytest.fixture(scope="module")
def guarded(settings: Settings) -> Iterator[str]:
    access = AccessSettings(required=True, keys=SecretStr(json.dumps([{"key": KEY, "name": "commands"}])))
    with running(settings.model_copy(update={"access": access})) as url:
        yield url


def command(*arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command on its own: the server under test logs in this process."""
    variables = environ | ({"NAUTILUS_API_KEY": key} if key else {})
    line = [sys.executable, "-m", "nautilus", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=variables)


def manifest(folder: Path) -> str:
    row = {"audio_filepath": str(SPEECH), "duration": 4.0, "text": HEARD}
    (folder / "set.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return str(folder / "set.jsonl")


COMMANDS = {
    "listen": ("listen", "--file", str(SPEECH), "--speed", "20", "--delay", "xhigh"),
    "bench": ("bench", str(SPEECH), "--clients", "1", "--seconds", "0.2"),
    "bench live": ("bench", str(SPEECH), "--clients", "1", "--seconds", "1", "--live"),
    "evaluate": ("evaluate", "MANIFEST"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_key_is_taken_from_the_environment_or_an_option(guarded: str, tmp_path: Path, name: str) -> None:
    line = [manifest(tmp_path) if part == "MANIFEST" else part for part in COMMANDS[name]] + ["--url", guarded]
    without = command(*line)
    told = " ".join((without.stderr + without.stdout).split())
    assert "The API key or client secret is missing" in told or "1 x 401" in told
    for answer in (command(*line, key=KEY), command(*line, "--api-key", KEY, key="an-older-key")):
        assert (answer.returncode, "401" in answer.stdout) == (0, False), answer.stderr


@pytest.mark.parametrize("key", ["a\r\nX: y", "a b", "schlüssel"])
def test_what_would_be_another_header_is_no_key(key: str) -> None:
    with pytest.raises(BadRequestError, match="no key has"):
        authorization(key)
