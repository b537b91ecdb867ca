"""The effective settings as a table for people, and as the configuration page of the docs."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from inspect import getsource
from re import DOTALL, findall
from typing import Any

from pydantic import SecretStr
from rich.table import Table

from nautilus.settings import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting."""

    variable: str
    value: str
    default: str
    meaning: str


def entries(settings: Settings) -> Iterator[Entry]:
    """Yield every setting with its value, secrets hidden, and the docstring under its field."""
    for name, field in Settings.model_fields.items():
        value, default = getattr(settings, name), field.default
        if is_dataclass(value) and not isinstance(value, type):
            meanings = _meanings(type(value))
            for inner in fields(value):
                variable = f"{PREFIX}{name}__{inner.name}".upper()
                given, usual = getattr(value, inner.name), getattr(default, inner.name)
                yield Entry(variable, _shown(given), _shown(usual), meanings.get(inner.name, ""))
        else:
            yield Entry(f"{PREFIX}{name}".upper(), _shown(value), _shown(default), field.description or "")


def settings_table(settings: Settings) -> Table:
    """Return a table of the effective settings; what differs from the default stands out."""
    table = Table("Variable", "Value", "Meaning", box=None, header_style="bold")
    for entry in entries(settings):
        value = entry.value if entry.value == entry.default else f"[bold cyan]{entry.value}[/]"
        table.add_row(entry.variable, value, entry.meaning)
    return table


def markdown(settings: Settings) -> str:
    """Return the settings as a Markdown table: the configuration page of the docs."""
    rows = (f"| `{entry.variable}` | `{entry.default}` | {entry.meaning} |" for entry in entries(settings))
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(hidden)" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "(none)"
    return str(value)


def _meanings(group: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, read from its source."""
    source = "".join(getsource(kind) for kind in group.__mro__ if is_dataclass(kind))
    found = findall(r'^    (\w+): [^\n]*\n    """(.*?)"""', source, flags=DOTALL | 8)
    return {name: " ".join(text.split()) for name, text in found}
