"""Starts the server, transcribes a sample through its API, prints what it heard and how long it took, stops it."""

import json
import sys
import time
import urllib.request
from pathlib import Path

from process import serve

from nautilus.measure.client import Address, upload

SAMPLE = Path(__file__).with_name("sample.ogg")
EXPECTED = Path(__file__).with_name("sample.txt").read_text().split()


def main() -> int:
    """Run the demonstration; 0 if the words are right."""
    with serve() as server:
        print(f"Server ready after {server.ready_after:.2f} s at {server.url}")
        raw = upload(Address.of(server.url), "/transcribe", SAMPLE, {})
        head, _, body = raw.partition(b"\r\n\r\n")
        kind = next(line for line in head.decode().split("\r\n") if line.startswith("Content-Type"))
        request = urllib.request.Request(f"{server.url}/transcribe", body, {"Content-Type": kind.split(": ")[1]})
        started = time.perf_counter()
        with urllib.request.urlopen(request) as response:
            document = json.load(response)
        seconds = time.perf_counter() - started
    print(f"{SAMPLE.name}: {document['audio']['duration']:.1f} s of speech in {seconds:.3f} s")
    print(f"  heard:    {document['text']}")
    print(f"  expected: {' '.join(EXPECTED)}")
    return 0 if document["text"].split() == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
