"""What docs/jobs.md shows works, line by line and in its order."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from tests.conftest import ROOT
from tests.web.clips import SPEECH
from tests.web.jobs import JOBS, done, submit, working

PAGE = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with working(settings, tmp_path_factory.mktemp("docs"), jobs=JobLimits(poll_seconds=0.1)) as client:
        yield client


def test_every_command_works(client: httpx.Client, tmp_path: Path) -> None:
    if not (shutil.which("jq") and shutil.which("curl")):
        pytest.skip("there is no curl, or no jq")
    for name in ("talk.mp3", "meeting.flac", "recordings/a.flac", "recordings/b.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(SPEECH, tmp_path / name)
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    url = str(client.base_url).rstrip("/")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = subprocess.run(
        ["bash", "-xc", script.replace("http://127.0.0.1:8000", url)],
        cwd=tmp_path,
        env=os.environ | {"NAUTILUS_URL": url, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert {file.name for file in (tmp_path / "subtitles").iterdir()} == {"talk.srt", "a.srt", "b.srt"}
    first, second = re.search(r"^(job_\w+)\n(job_\w+)$", shown.stdout, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert first == second, "the same Idempotency-Key gives the same job"
    assert "event: transcription.job.completed" in shown.stdout
    assert "WEBVTT" in shown.stdout


def test_the_job_that_is_shown_has_the_fields_of_a_job(client: httpx.Client) -> None:
    shown = json.loads(re.search(r"```json\n(\{\n.*?)```", PAGE, re.DOTALL)[1])  # type: ignore[index]
    job = submit(client, 1.0)
    assert shape(shown) == shape(job)
    done(client, job["id"])


def test_every_endpoint_has_an_example_in_the_openapi_document(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    ours = {path: methods for path, methods in paths.items() if re.match(f"{JOBS}|/v1/(uploads|webhooks|usage)", path)}
    assert len(ours) == 12
    for path, methods in ours.items():
        for method, operation in methods.items():
            answers = [answer for status, answer in operation["responses"].items() if status[0] == "2"]
            kinds = [kind for answer in answers for kind in answer.get("content", {}).values()]
            assert any("example" in kind for kind in kinds), f"{method} {path}"
            assert operation["description"], f"{method} {path}"


def shape(document: dict[str, Any]) -> dict[str, Any]:
    """Return the names of a document's fields, and of those inside them."""
    return {name: shape(value) if isinstance(value, dict) else None for name, value in document.items()}
