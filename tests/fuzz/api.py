"""Requests made from the OpenAPI document by the thousand: `schemathesis` at a server in a process of its own."""

import json
import subprocess
import sys
from typing import Any, Final

from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz.serving import serving

load_all_checks()
KEY: Final = "the-operator-s-own-key"
KEYS: Final = [{"key": KEY, "name": "operator", "scopes": ["admin", "transcribe", "stream", "jobs"]}]
NOT_PROMISED: Final[list[Any]] = [positive_data_acceptance]
"""That bytes, names and sums are good is more than a schema can say."""


def bearer() -> dict[str, str]:
    """Return the header that opens everything."""
    return {"Authorization": f"Bearer {KEY}"}


def fuzz_api(count: int, seed: int) -> int:
    """Make up to so many requests of each kind of each operation; return 1 if any answer was wrong."""
    with serving(ACCESS__KEYS=json.dumps(KEYS)) as server:
        headers = [part for name, value in bearer().items() for part in ("-H", f"{name}: {value}")]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *headers]
        checks = ["--exclude-checks", ",".join(check.__name__ for check in NOT_PROMISED)]
        bounds = ["-n", str(count), "--seed", str(seed), "--request-timeout", "60", "--continue-on-failure"]
        return subprocess.run([*command, *checks, *bounds, "--no-color"], check=False).returncode
