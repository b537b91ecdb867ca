"""`make fuzz`: changed recordings by the thousand, at a server with the embedded model.

python -m tests.fuzz --count 20000 --seed 1
"""

import argparse
import asyncio
import re
import sys
from typing import Final

import httpx

from tests.fuzz.media import fuzz
from tests.fuzz.mutations import mutated, real_recordings, recordings
from tests.fuzz.serving import serving
from tests.web.clips import SPEECH

COUNTED: Final = re.compile(
    r"^(nautilus_decoder_crashes_total|nautilus_decoder_timeouts_total|nautilus_model_\w+_total\S*) (\S+)", re.MULTILINE
)


def main() -> int:
    """Run, and print a report. Return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many recordings")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="change real recordings as well, where they are")
    parser.add_argument("--write", type=int, help="write the recording of this number to standard output, and end")
    arguments = parser.parse_args()
    sources = (*recordings(), *(real_recordings() if arguments.real else ()))
    if arguments.write is not None:
        sys.stdout.buffer.write(mutated(arguments.seed, arguments.write, sources))
        return 0
    with serving() as url:
        before = _heard(url)
        numbers = range(arguments.first, arguments.first + arguments.count)
        report = asyncio.run(fuzz(url, sources, arguments.seed, numbers))
        if _heard(url) != before:
            report.failures.append("  a clean recording is heard otherwise than before")
        counted = COUNTED.findall(httpx.get(f"{url}/metrics").text)
    print(report, *(f"  {name} {value}" for name, value in counted), sep="\n")  # noqa: T201 - its output
    return int(bool(report.failures))


def _heard(url: str) -> str:
    with SPEECH.open("rb") as file:
        return str(httpx.post(f"{url}/transcribe", files={"file": file}, timeout=60).json()["text"])


if __name__ == "__main__":
    sys.exit(main())
