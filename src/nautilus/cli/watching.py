"""A job's progress in the terminal, and its results as files."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nautilus.cli.asking import JOBS, JobServer, UnreachableError
from nautilus.cli.console import notes
from nautilus.cli.transcribe import ENDINGS
from nautilus.errors import BadRequestError, OverloadedError

ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired"})
PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0)
"""Seconds before each try to come back to a server that is away."""
MOST_FAULTS: Final = 20
"""Files that failed, of which the reasons are shown."""


class _Audio(ProgressColumn):
    """Seconds of audio done, of those that are known."""

    def render(self, task: Task) -> Text:
        known = f" of {task.total:,.0f}" if task.total else ""
        return Text(f"{task.completed:,.0f}{known} s of audio")


def watch(server: JobServer, job: str) -> dict[str, Any]:
    """Show how far a job is until it has ended; return it. Connections that drop are taken up again."""
    document = server.get(f"{JOBS}/{job}")
    columns = (TextColumn("{task.description}"), BarColumn(), _Audio(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        bar = progress.add_task(_described(document), total=None)
        for data in _followed(server, job):
            status = str(data["type"]).rpartition(".")[2]
            if status in ("queued", "processing"):
                document["status"] = status
            if "seconds_done" in data:
                document["files"] |= {"completed": data["files_done"] - data["files_failed"]}
                document["files"] |= {"failed": data["files_failed"]}
                progress.update(bar, completed=data["seconds_done"], total=data["seconds_total"])
            progress.update(bar, description=_described(document))
    return server.get(f"{JOBS}/{job}")


def report(server: JobServer, document: dict[str, Any]) -> bool:
    """Say how a job ended and which files failed; return whether all is well."""
    files, failed = document["files"], document["files"]["failed"]
    well = document["status"] == "completed"
    mark = "[green]✓[/green]" if well and not failed else "[red]✗[/red]" if not well else "[yellow]![/yellow]"
    seconds = document["audio"]["seconds_done"]
    line = f"{document['status']}: {files['completed']} of {files['total']} files, {seconds:,.1f} s of audio"
    notes.print(f"{mark} {document['id']} {line}", soft_wrap=True)
    shown = 0
    for file in server.files(document["id"]) if failed else ():
        if file["error"] and shown < MOST_FAULTS:
            shown += 1
            notes.print(f"  {file['name']}: {file['error']['message']}", markup=False, soft_wrap=True)
    if failed > shown:
        notes.print(f"  … and {failed - shown} more")
    return well and not failed


def show(jobs: list[dict[str, Any]], console: Console) -> None:
    """Print a table of jobs."""
    table = Table("Job", "Status", "Done", "Files", "Failed", "Audio", box=None, header_style="bold")
    for job in jobs:
        files = job["files"]
        audio = f"{job['audio']['seconds_done']:,.0f} s"
        done = f"{100 * job['progress']:.0f} %"
        table.add_row(job["id"], job["status"], done, str(files["total"]), str(files["failed"] or ""), audio)
    console.print(table)


def results(server: JobServer, job: str, form: str, number: int | None, *, partial: bool) -> Iterator[tuple[str, str]]:
    """Give the names and the transcripts of a job's files in one format; those that have none are told."""
    for file in server.files(job):
        if number is not None and file["id"] != number:
            continue
        if file["status"] != "completed" and not partial:
            reason = file["error"]["message"] if file["error"] else f"It is {file['status']}."
            notes.print(f"{file['name']}: {reason}", markup=False, style="yellow", soft_wrap=True)
            continue
        query = {"file": file["id"], "response_format": form, "partial": partial or None}
        yield file["name"], server.text(f"{JOBS}/{job}/result", **query)


def write(folder: Path, form: str, found: Iterator[tuple[str, str]]) -> int:
    """Write a file for each transcript, under the recording's name; return how many."""
    taken: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in found:
            (folder / _file_name(name, ENDINGS[form], taken)).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadRequestError(f"{folder} can't be written: {error.strerror}.") from None
    return len(taken)


def _followed(server: JobServer, job: str) -> Iterator[dict[str, Any]]:
    """Give a job's events to its end, each once."""
    after, away = 0, 0
    while True:
        try:
            for after, data in server.events(job, after):  # noqa: B007, B020 - where to go on from
                away = 0
                yield data
            if server.get(f"{JOBS}/{job}")["status"] in ENDED:
                return
        except (UnreachableError, OverloadedError):
            if away == len(PAUSES):
                raise
        notes.print("The connection dropped; it is taken up again …", style="dim")
        threading.Event().wait(PAUSES[min(away, len(PAUSES) - 1)])
        away += 1


def _described(document: dict[str, Any]) -> str:
    files = document["files"]
    failed = f", {files['failed']} failed" if files["failed"] else ""
    count = f" {files['completed'] + files['failed']}/{files['total']} files{failed}" if files["total"] > 1 else ""
    return f"{document['status']}{count}"


def _file_name(name: str, ending: str, taken: set[str]) -> str:
    """Return a name for a transcript that is no path and not taken yet: recordings are named by whoever sent them."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    stem = re.sub(r'[\x00-\x1f<>:"|?*]', "_", last.rpartition(".")[0] or last).strip(" .")[:150] or "recording"
    number, chosen = 1, stem + ending
    while chosen.lower() in taken:
        number += 1
        chosen = f"{stem}-{number}{ending}"
    taken.add(chosen.lower())
    return chosen
