"""One table, in one run on one machine: `make bench`.

    python benchmarks/run.py --speech FOLDER [--work FOLDER] [--seconds 4] [--only throughput,plain,idle,…]

FOLDER has `dev_en.jsonl` in NeMo's manifest form; without it the sample is used. WORK keeps the 109M-parameter model
and its export between runs.
"""

import argparse
import json
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Event, Thread
from typing import Self

import httpx
import numpy as np
import uvloop  # the clients have the cores that the server has: they should take little of them
from packaging.requirements import Requirement
from rich.console import Console
from threadpoolctl import threadpool_limits

from engine_alone import decode, engine_rate, idle_latency
from live_streams import STREAMS, carried, delays, first, full, live, stepping
from nautilus.engines.base import Engine
from nautilus.engines.bundle import read_bundle
from nautilus.engines.catalog import Catalog
from nautilus.engines.onnx import OnnxEngine
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.measure.bench import Round, run_rounds
from nautilus.measure.client import Target
from nautilus.runtime.calibrate import Sizing, size
from nautilus.types import SAMPLE_RATE, Waveform
from process import resident_megabytes, serve
from report import Bench, Report

CLIENTS = (1, 4, 16, 64)
MANY = 16
"""Clients from which on the targets count."""
TURNS = 3
HERE = Path(__file__).parent


def throughput(bench: Bench) -> None:
    """HTTP against the engine alone, both models. They take turns, and the median turn counts: machines are noisy."""
    embedded, large = Catalog(bench.work).embedded, bench.large
    # A slow model's last answers come long after the last question: it is watched for longer.
    for name, folder, target, slowness in (("embedded", embedded, 80, 1.0), ("109M", large, 97, 3.0)):
        engine, sizing = load(folder)
        alone = partial(engine_rate, engine, bench.waveforms, sizing, slowness * bench.seconds)
        with serve([sys.executable, "-m", "nautilus", "serve", "--model", str(folder)]) as server:
            for clients in bench.clients:
                turns = []
                for _ in range(TURNS):
                    before = alone()
                    (one,) = uvloop.run(
                        run_rounds(Target(server.url), bench.clips, [clients], slowness * bench.seconds)
                    )
                    turns.append((one.throughput / ((before + alone()) / 2), one))
                ratio, one = sorted(turns, key=lambda turn: turn[0])[TURNS // 2]
                shares = ", ".join(f"{100 * share:.0f}" for share, _ in turns)
                bench.report.add(
                    f"{name} ({sizing.max_items} in a batch), {clients} clients, of the engine alone",
                    f"{100 * ratio:.0f} % ({shares}); {one.throughput:.0f} s/s; {latencies(one)}",
                    f">= {target} %" if clients >= MANY else "",
                )


def plain(bench: Bench) -> None:
    """Against the usual wrapper around NeMo's `transcribe()`, 16 clients, both models, exact and 8-bit weights."""
    embedded = Catalog(bench.work).embedded
    large = bench.large
    for name, nemo, folder, slowness in (
        ("embedded", embedded / "model.nemo", embedded, 1.0),
        ("109M", large.with_suffix(".nemo"), large, 4.0),
    ):
        with serve([sys.executable, str(HERE / "plain_server.py"), str(nemo)]) as server:
            (theirs,) = uvloop.run(run_rounds(Target(server.url), bench.clips, [MANY], 2 * slowness * bench.seconds))
        bench.report.add(
            f"{name}, {MANY} clients: plain NeMo server", f"{theirs.throughput:.0f} s/s; {latencies(theirs)}", ""
        )
        for what, served in ((name, folder), (f"{name}, 8-bit weights", bench.quantized(folder))):
            with serve([sys.executable, "-m", "nautilus", "serve", "--model", str(served)]) as server:
                (ours,) = uvloop.run(run_rounds(Target(server.url), bench.clips, [MANY], slowness * bench.seconds))
            times = ours.throughput / theirs.throughput
            share = 100 * ours.percentile(0.95) / theirs.percentile(0.95)
            bench.report.add(f"{what}, {MANY} clients: Nautilus", f"{ours.throughput:.0f} s/s; {latencies(ours)}", "")
            bench.report.add(f"{what}, of the plain server", f"{times:.1f} x, p95 {share:.0f} %", ">= 10 x, <= 20 %")


def idle(bench: Bench) -> None:
    """One clip of about five seconds, alone."""
    place = min(range(len(bench.waveforms)), key=lambda n: abs(len(bench.waveforms[n]) - 5 * SAMPLE_RATE))
    engine, _ = load(Catalog(bench.work).embedded)
    with serve() as server:
        (one,) = uvloop.run(run_rounds(Target(server.url), [bench.clips[place]], [1], 3.0))
    own = idle_latency(engine, bench.waveforms[place])
    extra = one.percentile(0.5) - own
    bench.report.add(
        f"idle latency of one {len(bench.waveforms[place]) / SAMPLE_RATE:.1f}-s clip",
        f"{1000 * one.percentile(0.5):.1f} ms; engine {1000 * own:.1f} ms; difference {1000 * extra:.1f} ms",
        "<= 10 ms",
    )


def start(bench: Bench) -> None:
    """Process start to ready, memory after warm-up, size of the default install."""
    ready, memory = [], []
    for _ in range(5):
        with serve() as server:
            uvloop.run(run_rounds(Target(server.url), bench.clips[:4], [2], 1.0))
            ready.append(server.ready_after)
            memory.append(resident_megabytes(server.pid))
    bench.report.add("process start to ready, median of 5", f"{sorted(ready)[2]:.2f} s", "<= 2 s")
    bench.report.add("resident memory of all processes, after warm-up", f"{sorted(memory)[2]:.0f} MB", "<= 300 MB")
    bench.report.add("default install", f"{installed_megabytes('nautilus'):.0f} MB", "")


def long(bench: Bench) -> None:
    """Time a three-hour recording, and watch memory grow meanwhile."""
    with tempfile.TemporaryDirectory() as scratch, serve() as server:
        recording = Path(scratch) / "three_hours.wav"
        write_hours(recording, bench.waveforms, hours=3.0)
        uvloop.run(run_rounds(Target(server.url), bench.clips[:4], [2], 1.0))
        base = resident_megabytes(server.pid)
        with highest(lambda: resident_megabytes(server.pid)) as peak, recording.open("rb") as file:
            started = time.perf_counter()
            reply = httpx.post(f"{server.url}/transcribe", files={"file": file}, timeout=3600)
            wall = time.perf_counter() - started
        document = reply.raise_for_status().json()
    bench.report.add(
        "3-hour recording", f"{wall:.0f} s = {3 * 3600 / wall:.0f} x real time, {len(document['words'])} words", ""
    )
    bench.report.add("memory growth meanwhile", f"{peak.value - base:.0f} MB over {base:.0f} MB", "< 200 MB")


class highest:  # noqa: N801 - reads as a function
    """Watch a figure while a block runs, and keep its highest value."""

    def __init__(self, measure: Callable[[], float]) -> None:
        self.value = 0.0
        self._measure = measure
        self._over = Event()
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            self.value = max(self.value, self._measure())


def load(folder: Path) -> tuple[Engine, Sizing]:
    """Load a bundle and size it as the server does."""
    bundle = read_bundle(folder)
    engine: Engine = OnnxStreamingEngine(bundle) if bundle.streaming else OnnxEngine(bundle)
    cache = Path("~/.cache/nautilus/sizing").expanduser() / f"{bundle.fingerprint}.json"
    return engine, size(engine, Sizing(0, 0), cache)


def latencies(one: Round) -> str:
    """Return a round's latencies, errors and changed transcripts in words."""
    p50, p95, p99 = (f"{1000 * one.percentile(share):.0f}" for share in (0.5, 0.95, 0.99))
    trouble = f", errors {dict(one.errors)}" if one.errors else ""
    changed = f", {one.mismatches} of {len(one.latencies)} changed" if one.mismatches else ""
    return f"p50 {p50}, p95 {p95}, p99 {p99} ms{trouble}{changed}"


def installed_megabytes(name: str, seen: set[str] | None = None) -> float:
    """Return the size of a package and of all that its default install needs."""
    seen = set() if seen is None else seen
    if name.lower() in seen:
        return 0.0
    seen.add(name.lower())
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return 0.0
    files = [Path(str(file.locate())) for file in found.files or []]
    own = sum(file.stat().st_size for file in files if file.is_file()) / 1e6
    needs = [Requirement(line) for line in found.requires or []]
    wanted = [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return own + sum(installed_megabytes(need, seen) for need in wanted)


def write_wavs(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Write recordings as 16-kHz WAV files, which cost the least to decode: the server's own share shows most."""
    written = []
    for number, waveform in enumerate(decode(sources)):
        written.append(folder / f"{number:03}.wav")
        write_wav(written[-1], [waveform])
    return written


def write_hours(target: Path, waveforms: Sequence[Waveform], hours: float) -> None:
    """Write a recording of many hours: the clips over and over, half a second between them."""
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    once = [part for waveform in waveforms for part in (waveform, pause)]
    times = int(hours * 3600 * SAMPLE_RATE / sum(map(len, once))) + 1
    write_wav(target, once * times)


def write_wav(target: Path, parts: Sequence[Waveform]) -> None:
    """Write 16-bit PCM."""
    with wave.open(str(target), "wb") as output:
        output.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        for part in parts:
            output.writeframes((np.clip(part, -1, 1) * 32767).astype("<i2").tobytes())


def find_clips(speech: Path) -> list[Path]:
    """Choose 64 recordings of 3 to 12 seconds, or the sample."""
    manifest = speech / "dev_en.jsonl"
    if not manifest.is_file():
        return [HERE / "sample.flac"]
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    chosen = [row for row in rows if 3 <= row["duration"] <= 12]  # noqa: PLR2004
    return [speech / row["audio_filepath"] for row in chosen[:: max(1, len(chosen) // 64)]][:64]


MEASUREMENTS = {
    "throughput": throughput,
    "plain": plain,
    "idle": idle,
    "start": start,
    "long": long,
    "live": live,
    "full": full,
    "carried": carried,
    "stepping": stepping,
    "first": first,
    "delays": delays,
}


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, default=Path("../shared/speech"))
    parser.add_argument("--work", type=Path, default=Path("~/.cache/nautilus/bench").expanduser())
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--streams", default=",".join(map(str, STREAMS)), help="of live, one after the other")
    parser.add_argument("--clients", default=",".join(map(str, CLIENTS)))
    parser.add_argument("--only", default=",".join(MEASUREMENTS))
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    arguments = parser.parse_args()
    clients = tuple(map(int, arguments.clients.split(",")))
    arguments.work.mkdir(parents=True, exist_ok=True)
    threadpool_limits(1, user_api="blas")  # as the server has it
    with tempfile.TemporaryDirectory() as scratch:
        clips = write_wavs(find_clips(arguments.speech), Path(scratch))
        bench = Bench(
            clips=clips,
            waveforms=decode(clips),
            speech=arguments.speech,
            work=arguments.work,
            seconds=arguments.seconds,
            clients=clients,
            streams=tuple(map(int, arguments.streams.split(","))),
            report=Report(),
        )
        for name in arguments.only.split(","):
            MEASUREMENTS[name](bench)
        Console().print(bench.report.table())
        if arguments.markdown:
            arguments.markdown.write_text(bench.report.markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
