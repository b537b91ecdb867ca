"""What a server does not need at its start, it does not import: each costs time and memory."""

import subprocess
import sys

LATE = (
    "alembic",
    "av",
    "dbos",
    "nemo",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "pynvml",
    "redis",
    "scipy.signal",
    "sqlalchemy.dialects.postgresql",
    "torch",
)


def test_an_application_is_made_without_what_is_not_always_needed() -> None:
    program = f"import sys, nautilus.web.app; print([name for name in {LATE} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
