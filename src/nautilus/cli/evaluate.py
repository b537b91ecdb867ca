"""`nautilus evaluate`: reads manifests, has everything heard, prints and writes what came of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from nautilus.assembly import assemble
from nautilus.errors import BadRequestError
from nautilus.measure.client import Target
from nautilus.measure.evaluate import Evaluation, by_pipeline, by_url, evaluate
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.page import page
from nautilus.measure.report import (
    Row,
    document,
    rates_table,
    rows_by,
    speed_table,
    worst,
    worst_table,
)
from nautilus.measure.score import check_installed
from nautilus.observe import configure_logging
from nautilus.settings import Settings
from nautilus.types import LEVELS, Level


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    manifests: list[Path]
    model: str | None
    levels: tuple[str, ...]
    server: Target | None
    """A server to ask; None: hear it here."""
    limit: int
    plain: bool
    show: int
    json_file: Path | None
    html_file: Path | None


async def run(request: Request, settings: Settings) -> None:
    """Evaluate and report. Raises NautilusError."""
    configure_logging(settings.log_level, settings.log_format)
    check_installed()
    levels = [_level(name) for name in request.levels]
    utterances = list(choose(request.manifests, request.limit))
    with _progress(sum(u.seconds for u in utterances) * len(levels)) as bar:
        if request.server:
            url, headers = request.server.url, request.server.headers
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:
                evaluation = await evaluate(utterances, levels, by_url(client, request.model), bar, plain=request.plain)
        else:
            async with assemble(settings) as core:
                await core.pool.keep(core.default_model)
                hear = by_pipeline(core.pipeline, core.default_model)
                evaluation = await evaluate(utterances, levels, hear, bar, plain=request.plain)
    report(request, evaluation)


def report(request: Request, evaluation: Evaluation) -> None:
    """Print the tables and write the files."""
    groups = {
        "set": rows_by(evaluation, lambda result: result.utterance.set),
        "language": rows_by(evaluation, lambda result: result.utterance.language),
        "speaker": rows_by(evaluation, lambda result: result.utterance.speaker),
    }
    console = Console()
    for name, rows in groups.items():
        if name == "set" or 1 < _groups(rows) <= 10:  # noqa: PLR2004 - more would not be read
            console.print(rates_table(rows, name))
    console.print(speed_table(evaluation))
    if request.show:
        console.print(worst_table(worst(evaluation.results, request.show)))
    if request.json_file:
        request.json_file.write_text(json.dumps(document(evaluation, groups), indent=1), encoding="utf-8")
    if request.html_file:
        request.html_file.write_text(page(evaluation, groups), encoding="utf-8")


def choose(manifests: list[Path], limit: int) -> Iterator[Utterance]:
    """Yield the utterances of all manifests; of each set at most `limit`, spread evenly."""
    sets: dict[str, list[Utterance]] = {}
    for manifest in manifests:
        for utterance in read_manifest(manifest):
            sets.setdefault(utterance.set, []).append(utterance)
    if not sets:
        raise BadRequestError("There are no utterances in these manifests.")
    for members in sets.values():
        step = max(1, len(members) // limit) if limit else 1
        yield from members[::step][: limit or None]


def _level(name: str) -> Level:
    for level in LEVELS:
        if name == level:
            return level
    raise BadRequestError(f"There is no level '{name}'; levels are {', '.join(LEVELS)}.")


def _groups(rows: list[Row]) -> int:
    return len({row.group for row in rows})


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float], None]]:
    notes = Console(stderr=True, highlight=False)
    columns = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        bar = progress.add_task("", total=max(1.0, seconds))
        yield lambda done: progress.advance(bar, done)
