"""Starts the server, transcribes a sample through its API, prints what it heard and how long it took, stops it."""

import sys
import time
from pathlib import Path

import httpx

from process import serve

SAMPLE = Path(__file__).with_name("sample.flac")
EXPECTED = Path(__file__).with_name("sample.txt").read_text().split()


def main() -> int:
    """Run the demonstration; 0 if the words are right."""
    with serve() as server:
        print(f"Server ready after {server.ready_after:.2f} s at {server.url}")
        started = time.perf_counter()
        response = httpx.post(f"{server.url}/transcribe", files={"file": SAMPLE.read_bytes()})
        seconds = time.perf_counter() - started
        document = response.raise_for_status().json()
    print(f"{SAMPLE.name}: {document['audio']['duration']:.1f} s of speech in {seconds:.3f} s")
    print(f"  heard:    {document['text']}")
    print(f"  expected: {' '.join(EXPECTED)}")
    return 0 if document["text"].split() == EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
