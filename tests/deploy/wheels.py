"""Our wheel and our source archive, and environments in which the wheel is installed."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True, slots=True)
class Built:
    """What `make build` makes."""

    source: Path
    wheel: Path


def build(folder: Path) -> Built:
    """Build the source archive, and the wheel from that archive alone."""
    _hatch("sdist", ROOT, folder)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    _hatch("wheel", folder / source.name.removesuffix(".tar.gz"), folder)
    (wheel,) = folder.glob("*.whl")
    return Built(source, wheel)


def _hatch(target: str, project: Path, out: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True, env=clean_environment())


def install(wheel: Path, folder: Path) -> Path:
    """Install the wheel alone into a new environment that sees what it stands on in this one; the new Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "-q", "--python", str(python)]
    command = [*pip, "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True, env=clean_environment())
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def clean_environment() -> dict[str, str]:
    """Return our variables without those that would let a process find this checkout, or change a server."""
    ours = ("PYTHONPATH", "NAUTILUS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
