"""What jobs cost, in one table: `make bench-jobs`.

    python benchmarks/jobs.py --speech FOLDER [--files 10000] [--only accepted,hour,batch,priority] [--postgres URL]
                              [--model BUNDLE]

The figures: jobs accepted per second; one hour as a job against the direct call; a batch of one-second files against
the engine alone; requests and live streams while a huge batch runs against the same before it.
"""

import argparse
import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from engine_alone import decode, engine_rate
from nautilus.engines.catalog import Catalog
from nautilus.measure.bench import run_rounds
from nautilus.measure.client import Target
from nautilus.measure.live import run_live
from nautilus.types import SAMPLE_RATE, Waveform
from process import Server, serve
from report import Report
from run import load, write_hours

JOBS = "/v1/audio/transcriptions/jobs"
CLIENTS = 8
TURNS = 3
SECONDS = 8.0


@contextmanager
def place(database: str | None) -> Iterator[dict[str, str]]:
    """Give settings of a server with a fresh place for its things."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"NAUTILUS_STORAGE__DATA_DIR": folder, "NAUTILUS_JOBS__MAX_QUEUED": "1000000"}
        if database:
            variables["NAUTILUS_STORAGE__DATABASE_URL"] = database
            upgrade = [sys.executable, "-m", "nautilus", "db", "upgrade"]
            subprocess.run(upgrade, env=os.environ | variables, check=True)
        yield variables


@contextmanager
def open_server(database: str | None = None, **variables: str) -> Iterator[Server]:
    """Run a server whose jobs are open."""
    with place(database) as own, serve(environment=own | variables) as server:
        while not httpx.get(f"{server.url}{JOBS}").is_success:
            time.sleep(0.05)
        yield server


def accepted(report: Report, clip: bytes, database: str | None) -> None:
    """How many jobs of one file are taken in a second, by so many clients, while none is worked on."""
    with open_server(database, NAUTILUS_JOBS__AT_ONCE="1") as server:
        count, seconds = asyncio.run(_submit_many(server.url, clip))
    name = "PostgreSQL" if database else "SQLite"
    report.add(f"jobs accepted, {name}, {CLIENTS} clients", f"{count / seconds:.0f} a second", "")


async def _submit_many(url: str, clip: bytes) -> tuple[int, float]:
    started = time.perf_counter()
    count = 0

    async def work(client: httpx.AsyncClient) -> None:
        nonlocal count
        while time.perf_counter() - started < SECONDS:
            (await client.post(JOBS, files={"file": ("clip.wav", clip)})).raise_for_status()
            count += 1

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, asyncio.TaskGroup() as tasks:
        for _ in range(CLIENTS):
            tasks.create_task(work(client))
    return count, time.perf_counter() - started


def hour(report: Report, waveforms: Sequence[Waveform]) -> None:
    """One hour as a job, from the end of its upload to its end, against the direct call; they take turns."""
    with tempfile.TemporaryDirectory() as folder, open_server() as server:
        recording = Path(folder) / "hour.wav"
        write_hours(recording, waveforms, hours=1.0)
        ratios, walls = [], []
        for _ in range(TURNS):
            direct = _direct(server, recording)
            job = _job(server, recording)
            ratios.append(job / direct)
            walls.append((job, direct))
    shown = "; ".join(f"{job:.2f} and {direct:.2f} s" for job, direct in walls)
    report.add(
        "one hour as a job, of the direct call", f"{100 * statistics.median(ratios):.0f} % ({shown})", "<= 103 %"
    )


def _direct(server: Server, recording: Path) -> float:
    started = time.perf_counter()
    with recording.open("rb") as file:
        httpx.post(f"{server.url}/transcribe", files={"file": file}, timeout=3600).raise_for_status()
    return time.perf_counter() - started


def _job(server: Server, recording: Path) -> float:
    """Return the seconds from the request to the job's end, by the server's clock of events."""
    started = time.time()
    with recording.open("rb") as file:
        form = {"cache": "false"}
        answer = httpx.post(f"{server.url}{JOBS}", files={"file": file}, data=form, timeout=3600)
    return ended(server, answer.raise_for_status().json()["id"]) - started


def ended(server: Server, job: str) -> float:
    """Wait for a job's end; return when it was, in seconds since 1970."""
    last = ""
    with httpx.stream("GET", f"{server.url}{JOBS}/{job}/events", timeout=7200) as stream:
        for line in stream.iter_lines():
            last = line if line.startswith("data:") else last
    event = json.loads(last.removeprefix("data:"))
    if event["type"] != "transcription.job.completed":
        raise RuntimeError(event)
    return float(event["at"])


def batch(report: Report, pieces: Sequence[Waveform], files: int, model: Path) -> None:
    """So many files of a second in one batch, against the engine alone with the same pieces."""
    engine, sizing = load(model)
    clips = [sound(piece) for piece in pieces]
    before = engine_rate(engine, pieces, sizing, SECONDS)
    with open_server(NAUTILUS_JOBS__MAX_FILES=str(files)) as server:
        job = submit_batch(server, clips, files)
        begun = first_event(server, job, "processing")
        seconds = ended(server, job) - begun
        counted = httpx.get(f"{server.url}{JOBS}/{job}").json()["files"]
    alone = (before + engine_rate(engine, pieces, sizing, SECONDS)) / 2
    rate = files / seconds
    report.add(
        f"{files} files of a second in one batch, of the engine alone",
        f"{100 * rate / alone:.0f} % ({rate:.0f} files a second, {alone:.0f} alone; {counted})",
        ">= 80 %",
    )


def first_event(server: Server, job: str, kind: str) -> float:
    """Return when something first happened to a job that has ended or will."""
    with httpx.stream("GET", f"{server.url}{JOBS}/{job}/events", timeout=7200) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:") and f"job.{kind}" in line:
                return float(json.loads(line.removeprefix("data:"))["at"])
    raise RuntimeError(kind)


def submit_batch(server: Server, clips: Sequence[bytes], files: int) -> str:
    """Send so many files as one job, a part at a time."""
    boundary = "nautilus-bench"

    async def parts() -> AsyncIterator[bytes]:
        for number in range(files):
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{number}.wav"\r\n\r\n'
            yield head.encode() + clips[number % len(clips)] + b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    async def send() -> httpx.Response:
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        async with httpx.AsyncClient(timeout=3600) as client:
            return await client.post(f"{server.url}{JOBS}", content=parts(), headers=headers)

    return str(asyncio.run(send()).raise_for_status().json()["id"])


def priority(report: Report, clips: Sequence[Path], pieces: Sequence[Waveform], files: int) -> None:
    """Ask a request at a time, and play ten live streams, before and while a batch runs."""
    sounds = [sound(piece) for piece in pieces]
    with open_server(NAUTILUS_JOBS__MAX_FILES=str(4 * files), NAUTILUS_MAX_UPLOAD_BYTES=str(4 * 1024**3)) as server:
        quiet, quiet_live = _latencies(server, clips)
        job = submit_batch(server, sounds, 4 * files)
        first_event_of(server, job)
        busy, busy_live = _latencies(server, clips)
        still = httpx.get(f"{server.url}{JOBS}/{job}").json()["status"]
    for what, idle, loaded in (("requests", quiet, busy), ("live finals", quiet_live, busy_live)):
        report.add(
            f"{what} while a batch runs ({still} to the end), p95",
            f"{1000 * loaded:.0f} ms, {loaded / idle:.2f} times the {1000 * idle:.0f} ms before",
            "<= 1.5 times",
        )


def first_event_of(server: Server, job: str) -> None:
    """Wait until a job is worked on."""
    while httpx.get(f"{server.url}{JOBS}/{job}").json()["status"] == "queued":
        time.sleep(0.05)


def _latencies(server: Server, clips: Sequence[Path]) -> tuple[float, float]:
    (one,) = asyncio.run(run_rounds(Target(server.url), list(clips), [1], SECONDS))
    (live,) = asyncio.run(run_live(Target(server.url), list(clips), [10], 3 * SECONDS, "high"))
    return one.percentile(0.95), live.lag(0.95)


def sound(waveform: Waveform) -> bytes:
    """Return a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        output.writeframes((waveform * 32767).astype("<i2").tobytes())
    return file.getvalue()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--only", default="accepted,hour,batch,priority", help="postgres as well, with its address")
    parser.add_argument("--postgres", help="the address of an empty database")
    parser.add_argument("--model", type=Path, help="the folder of a bundle; the embedded model otherwise")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    model = options.model or Catalog(Path(tempfile.gettempdir())).embedded
    os.environ["NAUTILUS_MODEL"] = str(model)
    lines = (options.speech / "dev_en.jsonl").read_text().splitlines()
    clips = [options.speech / json.loads(line)["audio_filepath"] for line in lines[:64]]
    waveforms = decode(clips)
    whole = np.concatenate(waveforms)
    pieces = [whole[place : place + SAMPLE_RATE] for place in range(0, len(whole) - SAMPLE_RATE, SAMPLE_RATE)][:256]
    report = Report()
    steps: Mapping[str, Callable[[], None]] = {
        "accepted": lambda: accepted(report, sound(pieces[0]), None),
        "postgres": lambda: accepted(report, sound(pieces[0]), options.postgres),
        "hour": lambda: hour(report, waveforms),
        "batch": lambda: batch(report, pieces, options.files, model),
        "priority": lambda: priority(report, clips, pieces, options.files),
    }
    for name in options.only.split(","):
        steps[name]()
    if options.markdown:
        options.markdown.write_text(report.markdown())


if __name__ == "__main__":
    main()
