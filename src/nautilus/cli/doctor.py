"""`nautilus doctor`: looks at everything that the server stands on, and says what to do.

To add a check, write a function and name it in `LOOKS` (settings in, findings out; nothing runs yet) or in `TRIALS`
(with a core that runs).
"""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Final

from rich.markup import escape
from rich.table import Table

from nautilus.assembly import Core, assemble
from nautilus.cli import machine, surroundings, trials
from nautilus.cli.findings import Finding, ok
from nautilus.errors import ConfigurationError, NautilusError, first_error
from nautilus.observe import configure_logging
from nautilus.settings import Settings, load_settings

LOOKS: Final[tuple[Callable[[Settings], Iterable[Finding]], ...]] = (
    machine.packages,
    machine.system,
    machine.processor,
    machine.memory,
    machine.gpu,
    machine.open_files,
    machine.clock,
    machine.folders,
    machine.port,
    machine.models,
)
TRIALS: Final[tuple[Callable[[Core], AsyncIterator[Finding]], ...]] = (
    trials.decoder,
    trials.hearing,
    trials.storage,
    surroundings.database_clock,
    surroundings.keys,
    surroundings.redis,
)

MARKS: Final = {"ok": "[green]OK[/]", "warning": "[yellow]warning[/]", "problem": "[red]problem[/]"}


async def examine(model: str | None = None) -> list[Finding]:
    """Make all checks. Where the settings are wrong, the machine is looked at with those that are usual."""
    try:
        settings = load_settings(model=model, log_level="error")
    except ConfigurationError as error:
        wrong = Finding("settings", "problem", str(error), "`nautilus config` lists all settings with their meaning.")
        return [wrong, *_look(Settings.model_construct())]
    configure_logging(settings.log_level, settings.log_format)
    findings = [ok("settings", "valid"), *_look(settings)]
    try:
        with first_error():
            async with assemble(settings) as core:
                findings += [finding for trial in TRIALS async for finding in trial(core)]
    except NautilusError as error:
        if not any(finding.state == "problem" for finding in findings):  # else the cause has been told
            findings.append(Finding("start", "problem", str(error)))
    return findings


def _look(settings: Settings) -> Iterator[Finding]:
    for look in LOOKS:
        yield from look(settings)


def report(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table for people."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        advice = f"\n[bold]→ {escape(finding.advice)}[/]" if finding.advice else ""
        table.add_row(MARKS[finding.state], finding.subject, escape(finding.said) + advice)
    return table


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings for programs: a list of objects."""
    return json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1)


def verdict(findings: Sequence[Finding]) -> int:
    """Return the exit code: 1 where there is a problem."""
    return int(any(finding.state == "problem" for finding in findings))
