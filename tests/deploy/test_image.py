"""The images, as far as they can be tried without an engine for containers."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.deploy.dockerfile import Stage, build, context, inside, read
from tests.deploy.nginx import free_port
from tests.deploy.wheels import clean_environment
from tests.web.clips import SPEECH
from tests.web.test_stream import HEARD

FILES = sorted((ROOT / "deploy" / "docker").glob("Dockerfile.*"))
USER = 10001


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A folder that every user may enter, to stand for an image's `/`."""
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(root: Path) -> Stage:
    """The stage that is shipped, after the steps of the one before it."""
    building, shipped = read(ROOT / "deploy" / "docker" / "Dockerfile.cpu")
    build(building, root)
    for place in ("data", "tmp"):
        (root / place).mkdir()
        if os.geteuid() == 0:
            os.chown(root / place, USER, USER)
    return shipped


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.suffix)
def test_hadolint_has_nothing_to_say(file: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([str(hadolint), str(file)], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.suffix)
def test_an_image_runs_as_nobody_in_particular_and_says_how_it_is(file: Path) -> None:
    shipped = read(file)[-1]
    assert shipped.last("USER") == f"{USER}:{USER}"
    assert shipped.last("STOPSIGNAL") == "SIGTERM"
    assert shipped.command("ENTRYPOINT") + shipped.command("CMD") == ["python", "-m", "nautilus", "serve"]
    assert "/health/ready" in shipped.command("HEALTHCHECK")[-1]
    copied = [rest.split()[-1] for name, rest in shipped.steps if name == "COPY"]
    assert copied == ["/data", "/opt/environment", "/opt/nautilus"]  # the code last: a change leaves the rest cached


def test_only_what_an_image_is_built_from_is_sent_to_the_engine() -> None:
    files = context()
    assert {file.split("/")[0] for file in files} == {
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE"),
        *("src", "deploy"),
    }
    assert [file for file in files if file.startswith("deploy")] == ["deploy/docker/install.sh"]
    assert not [file for file in files if file.endswith(".pyc")]


def test_nautilus_lies_beside_what_it_stands_on(image: Stage, root: Path) -> None:
    assert image.variables()["PYTHONPATH"] == "/opt/nautilus"
    assert (root / "opt" / "nautilus" / "nautilus" / "py.typed").is_file()
    (site,) = (root / "opt" / "environment").glob("lib/python*/site-packages")
    assert not (site / "nautilus").exists()


def test_the_image_s_server_answers_and_writes_to_data_and_tmp_only(image: Stage, root: Path) -> None:
    port = free_port()
    environment = {name: inside(value, root) for name, value in image.variables().items()}
    environment |= {"NAUTILUS_PORT": str(port), "NAUTILUS_HOST": "127.0.0.1", "TMPDIR": str(root / "tmp")}
    clean = {name: value for name, value in clean_environment().items() if name not in ("HOME", "VIRTUAL_ENV")}
    environment = clean | environment
    before = _files(root)
    command = [*image.command("ENTRYPOINT"), *image.command("CMD")]
    process = _start(command, root / "opt", environment)
    try:
        assert _becomes_healthy(image.command("HEALTHCHECK"), environment, process)
        answer = httpx.post(f"http://127.0.0.1:{port}/transcribe", files={"file": SPEECH.read_bytes()}, timeout=30)
        assert answer.json()["text"] == HEARD
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert {path.relative_to(root).parts[0] for path in _files(root) - before} <= {"data", "tmp"}
    assert (root / "data" / "cache" / "sizing").is_dir()


def _start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command as the image's user, if this one may; its working folder is not that user's to write."""
    as_user = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    program = shutil.which(command[0], path=environment["PATH"])
    assert program
    return subprocess.Popen(  # type: ignore[no-any-return,call-overload]  # its keywords depend on who we are
        [program, *command[1:]], cwd=folder, env=environment, **as_user
    )


def _becomes_healthy(check: list[str], environment: dict[str, str], process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 50
    program = shutil.which(check[0], path=environment["PATH"])
    assert program
    while time.monotonic() < deadline and process.poll() is None:
        answer = subprocess.run([program, *check[1:]], env=environment, capture_output=True, check=False)
        if answer.returncode == 0:
            return True
    return False


def _files(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}
