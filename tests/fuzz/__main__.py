"""`make fuzz`: changed recordings, random conversations and requests by the thousand, at a server of their own.

python -m tests.fuzz --count 20000 --seed 1
python -m tests.fuzz media --seed 1 --write 4711 > recording
"""

import argparse
import asyncio
import re
import sys
from typing import Final

import httpx

from tests.fuzz.api import fuzz_api
from tests.fuzz.frames import fuzz_frames
from tests.fuzz.media import fuzz
from tests.fuzz.mutations import mutated, real_recordings, recordings
from tests.fuzz.serving import Serving, serving
from tests.web.clips import SPEECH

COUNTED: Final = re.compile(
    r"^(nautilus_decoder_crashes_total|nautilus_decoder_timeouts_total|nautilus_model_\w+_total\S*) (\S+)", re.MULTILINE
)
FRAMES_SHARE: Final = 4
"""Recordings for each conversation."""
API_SHARE: Final = 400
"""Recordings for each request of each operation."""


def main() -> int:
    """Run, and print a report. Return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("all", "media", "frames", "api"), default="all")
    parser.add_argument("--count", type=int, default=20_000, help="how many recordings; the others in proportion")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="change real recordings as well, where they are")
    parser.add_argument("--write", type=int, help="write the recording of this number to standard output, and end")
    asked = parser.parse_args()
    sources = (*recordings(), *(real_recordings() if asked.real else ()))
    if asked.write is not None:
        sys.stdout.buffer.write(mutated(asked.seed, asked.write, sources))
        return 0
    broken = False
    if asked.what in ("all", "media"):
        with serving() as server:
            report = asyncio.run(fuzz(server.url, sources, asked.seed, range(asked.first, asked.first + asked.count)))
            broken |= _tell(server, report, report.failures)
    if asked.what in ("all", "frames"):
        with serving() as server:
            many = asked.count // FRAMES_SHARE
            talk = asyncio.run(fuzz_frames(server.url, asked.seed, range(asked.first, asked.first + many)))
            broken |= _tell(server, talk, talk.failures)
    if asked.what in ("all", "api"):
        broken |= bool(fuzz_api(max(1, asked.count // API_SHARE), asked.seed))
    return int(broken)


def _tell(server: Serving, report: object, failures: list[str]) -> bool:
    """Print what came of a run, and what the server says of itself; return whether anything is wrong."""
    faults = server.faults()
    counted = COUNTED.findall(httpx.get(f"{server.url}/metrics").text)
    facts = [f"  {name} {value}" for name, value in counted] + [f"  memory {server.memory() / 2**20:.0f} MiB"]
    heard = _heard(server.url) == SPEECH.with_suffix(".txt").read_text(encoding="utf-8").strip()
    print(report, *facts, f"  errors in its log: {len(faults)}", *faults[:5], sep="\n")  # noqa: T201 - its output
    print(f"  a clean recording afterwards: {'as ever' if heard else 'heard otherwise'}\n", flush=True)  # noqa: T201
    return bool(failures or faults) or not heard


def _heard(url: str) -> str:
    with SPEECH.open("rb") as file:
        return str(httpx.post(f"{url}/transcribe", files={"file": file}, timeout=60).json()["text"])


if __name__ == "__main__":
    sys.exit(main())
