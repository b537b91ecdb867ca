"""What is shipped: complete, nothing beside, and it runs where there is no checkout."""

import subprocess
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.deploy.wheels import Built, clean_environment, install


@pytest.fixture(scope="module")
def files(built: Built) -> list[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_package_whole(files: list[str]) -> None:
    package = ROOT / "src" / "nautilus"
    ours = {file.relative_to(package.parent) for file in package.rglob("*") if file.is_file()}
    there = {Path(file) for file in files if not Path(file).parts[0].endswith(".dist-info")}
    assert there == {file for file in ours if "__pycache__" not in file.parts}
    assert Path("nautilus/py.typed") in there
    assert Path("nautilus/resources/embedded/weights.bin") in there


def test_the_wheel_names_its_licence_its_command_and_no_development_tools(built: Built, files: list[str]) -> None:
    (about,) = [file for file in files if file.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(built.wheel) as archive:
        head = Parser().parsestr(archive.read(about).decode())
        commands = archive.read(about.replace("METADATA", "entry_points.txt")).decode()
    assert head["License-Expression"] == "Apache-2.0 AND MIT"
    assert "nautilus = nautilus.cli:app" in commands
    always = {line.split(">")[0] for line in head.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {"fastapi", "onnxruntime"} <= always
    assert not always & {"torch", "pytest", "mypy", "nemo_toolkit"}


def test_the_source_archive_holds_what_the_wheel_is_built_from_and_no_caches(built: Built) -> None:
    with tarfile.open(built.source) as archive:
        names = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    assert {Path("pyproject.toml"), Path("README.md"), Path("LICENSE"), Path("constraints.txt")} <= set(names)
    assert {name.parts[0] for name in names if len(name.parts) > 1} == {"src"}
    assert not [name for name in names if name.suffix == ".pyc"]


def test_neither_is_too_large(built: Built) -> None:
    for file in (built.wheel, built.source):
        assert file.stat().st_size < 40 * 1024**2


def test_the_demonstration_runs_from_the_wheel(built: Built, tmp_path: Path) -> None:
    python = install(built.wheel, tmp_path / "venv")
    answer = subprocess.run(
        [str(python), str(ROOT / "benchmarks" / "demo.py")],
        cwd=tmp_path,
        env=clean_environment() | {"NAUTILUS_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    where = [str(python), "-c", "import nautilus; print(nautilus.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True)
    assert Path(found.stdout).is_relative_to(tmp_path)
