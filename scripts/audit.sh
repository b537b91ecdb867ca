#!/usr/bin/env bash
# Looks up every pinned package among known vulnerabilities (PyPI's own, from the Python Packaging Advisory Database).
# Where PyPI can't be asked it says so and is skipped; in CI (`CI=true`) that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
audit=${1:?"usage: scripts/audit.sh PATH/TO/pip-audit [REQUIREMENTS]"}
requirements=${2:-constraints.txt}

if ! "$(dirname "$audit")/python" - <<'PYTHON'; then
import json, sys, urllib.request
try:  # a mirror may have the packages and not what is known of them
    with urllib.request.urlopen("https://pypi.org/pypi/pip/24.0/json", timeout=10) as answer:
        json.load(answer)["vulnerabilities"]
except (OSError, ValueError, KeyError) as error:
    sys.exit(f"PyPI doesn't say what is known of a package: {error}")
PYTHON
  [ "${CI:-}" = true ] && exit 1
  echo "Skipped: packages were NOT looked up among known vulnerabilities." >&2
  exit 0
fi
exec "$audit" --requirement "$requirements" --no-deps --disable-pip --strict --progress-spinner off
