"""Reads a Dockerfile, and does what its build stage says in a folder that stands for the image's `/`."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.conftest import ROOT
from tests.deploy.wheels import clean_environment

PLACES = ("/build", "/opt", "/data", "/tmp")  # noqa: S108 - of the image
"""What the steps name of the image's `/`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What follows one FROM: instructions and their arguments, continued lines joined."""

    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """Return the arguments of the last such instruction, which is the one that counts."""
        return next(rest for name, rest in reversed(self.steps) if name == instruction)

    def variables(self) -> dict[str, str]:
        """Return what ENV sets."""
        lines = [rest for name, rest in self.steps if name == "ENV"]
        return dict(word.split("=", 1) for line in lines for word in shlex.split(line))

    def command(self, instruction: str) -> list[str]:
        """Return a command in exec form, of ENTRYPOINT, CMD or HEALTHCHECK."""
        words: list[str] = json.loads(self.last(instruction).partition("CMD ")[2] or self.last(instruction))
        return words


def read(file: Path) -> list[Stage]:
    """Return the stages of a Dockerfile."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name == "FROM":
            stages.append(Stage(rest))
        elif name:
            stages[-1].steps.append((name, rest.strip()))
    return stages


def context() -> list[str]:
    """Return the files that `.dockerignore` lets through, by its rules: the last that fits decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [file for file in listed.stdout.splitlines() if not _ignored(file, rules)]


def _ignored(file: str, rules: list[str]) -> bool:
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        parts = [file, *map(str, Path(file).parents), *(Path(file).parts if "**/" in rule else ())]
        if any(fnmatch(part, pattern) for part in parts):
            ignored = not rule.startswith("!")
    return ignored


def build(stage: Stage, root: Path) -> None:
    """Do the COPY and RUN steps of a stage, with `root` for `/`, and packages that are here instead of fetched ones."""
    (root / "build").mkdir()
    venv.create(root / "opt" / "environment", with_pip=False)
    (own,) = (root / "opt" / "environment").glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = root / "bin"
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    environment = clean_environment() | stage.variables()
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
    for name, rest in stage.steps:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(source, root / "build" / target / ("" if source == target else Path(source).name))
        elif name == "RUN":
            step = subprocess.run(
                ["sh", "-ec", inside(rest, root)],
                cwd=root / "build",
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert step.returncode == 0, step.stdout + step.stderr


def _copy(source: str, target: Path) -> None:
    found = [file for file in context() if file == source or file.startswith(f"{source}/")]
    assert found, f"{source} is not in the context"
    for file in found:
        place = target / Path(file).relative_to(source) if file != source else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, place)


def inside(text: str, root: Path) -> str:
    """Return a text with the image's places in it moved below `root`."""
    return re.sub(rf"(?<![\w.])({'|'.join(PLACES)})\b", lambda place: str(root) + place[0], text)
