"""Names of models on hubs.

owner/model                       Hugging Face, its newest revision
owner/model@revision              … at a commit, tag or branch
ngc:org/team/model:version        NGC; the team may be left out
ngc:org/team/model:version?file=name.nemo   … where the file is named otherwise than the model
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from nautilus.errors import ModelLoadError

HubName = Literal["huggingface", "ngc"]


@dataclass(frozen=True, slots=True)
class Source:
    """A repository on a hub, at a revision."""

    hub: HubName
    repository: str
    revision: str | None = None
    """Commit, tag or branch; on NGC the version. None: whatever is newest."""
    file: str | None = None
    """The only file that is wanted, where the name says so."""

    def __str__(self) -> str:
        if self.hub == "ngc":
            return f"ngc:{self.repository}:{self.revision}" + (f"?file={self.file}" if self.file else "")
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


_HUGGING_FACE: Final = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?", flags=re.ASCII)
_NGC: Final = re.compile(
    r"ngc:(?P<repository>\w[\w.-]*(?:/\w[\w.-]*){1,2}):(?P<revision>\w[\w.-]*)(?:\?file=(?P<file>\w[\w.-]*))?",
    flags=re.ASCII,
)


def parse(name: str) -> Source | None:
    """Read a hub's name; None if it is none."""
    if ".." in name or name.endswith("/"):
        return None
    if found := _NGC.fullmatch(name):
        return Source("ngc", found["repository"], found["revision"], found["file"])
    if found := _HUGGING_FACE.fullmatch(name):
        return Source("huggingface", found["repository"], found["revision"])
    return None


def check_path(path: str) -> str:
    """Return a path that a hub or an archive names. Raises ModelLoadError if it leads out of the model's folder."""
    parts = path.split("/")
    if PurePosixPath(path).is_absolute() or "\\" in path or "\0" in path or {"", ".", ".."} & set(parts):
        raise ModelLoadError(f"A file is named {path!r}, which leads out of the model's folder: nothing was installed.")
    return path
