"""What a check of `nautilus doctor` found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "problem"]
"""Fine; works, but worse than it could; does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    """What was looked at."""
    state: State
    said: str
    """What was found."""
    advice: str = ""
    """What to do about it."""


def ok(subject: str, said: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(subject, "ok", said)
