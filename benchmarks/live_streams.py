"""Live streams: how many, how late, what stepping them together brings, and what a small look-ahead costs in words."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from math import inf

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from threadpoolctl import threadpool_limits

from engine_alone import decode
from nautilus.engines.bundle import read_bundle
from nautilus.engines.catalog import Catalog
from nautilus.engines.onnx_streaming import OnnxStreamingEngine
from nautilus.measure.client import Target
from nautilus.measure.live import run_live
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.score import Score, rate, score
from nautilus.runtime.calibrate import cores
from nautilus.types import SAMPLE_RATE, Waveform
from nautilus.wire.live import DELAYS, look_ahead_for
from process import Server, processor_seconds, serve
from report import Bench

STREAMS = (1, 40, 80, 120, 160, 200, 240, 280)
LATE = 1.5
"""Seconds beyond the silence at which a final is late: the chunk that it waits for comes on top."""
SECONDS = 3.0
"""For each second of `--seconds`, those of a round of live streams: fewer tell little of the 95th percentile."""
TURNS = 5
TOGETHER = 32
"""Streams that the engine steps."""
PIECE = 1600
"""Samples that a stream brings at once."""
SETS = {"dev_en.jsonl": ("an4", "kathleen"), "digits_en.jsonl": ("fsdd",)}
CLIPS = 300
"""Of each set, chosen evenly."""
AT_ONCE = 8
FRAME = 0.08
"""Seconds of an encoder frame."""
IN_TIME = 0.3
"""Seconds beyond the silence and the model's own chunk within which a final must come."""
BATCHES = (1, 4, 8, 16, 32)
"""Streams in a step of the engine alone: the best counts."""
SHARP = 0.05
"""Share of the streams to which the number that is carried is looked for."""
UNBOUNDED = {"NAUTILUS_BATCH__STREAM_LOAD": "1000"}
"""Beyond what the server would let in."""


def live(bench: Bench) -> None:
    """Streams in real time, more and more, until finals come late; how late the server's event loop is meanwhile."""
    with serve() as server:
        places = httpx.get(f"{server.url}/health/ready").json()["streams"]["capacity"]
    bench.report.add(
        "embedded, live streams let in, by look-ahead",
        ", ".join(f"{count} with {look_ahead} s" for look_ahead, count in places.items()),
        "",
    )
    for delay in ("xhigh", "high", "minimal"):
        with serve(environment=UNBOUNDED) as server:
            for streams in bench.streams:
                started, before, lags = time.perf_counter(), processor_seconds(server.pid), loop_lags(server)
                (one,) = asyncio.run(
                    run_live(Target(server.url), bench.clips, [streams], SECONDS * bench.seconds, delay)
                )
                busy = (processor_seconds(server.pid) - before) / (time.perf_counter() - started)
                loop = late(server, lags)
                trouble = f", errors {dict(one.errors)}" if one.errors else ""
                bench.report.add(
                    f"embedded, {streams} live streams, delay {delay}",
                    f"final {1000 * one.lag(0.5):.0f} ms, p95 {1000 * one.lag(0.95):.0f} ms beyond the silence; "
                    f"first words {1000 * one.first_words(0.5):.0f} ms; event loop p99 <= {1000 * loop:.0f} ms; "
                    f"{busy:.2f} cores{trouble}",
                    "",
                )
                if one.errors or one.lag(0.95) > LATE:
                    break


def full(bench: Bench) -> None:
    """Every place of each look-ahead taken and three more asked for: those are refused, and nobody else is late."""
    with serve() as server:
        places = httpx.get(f"{server.url}/health/ready").json()["streams"]["capacity"]
        known = sorted(map(float, places))
        for delay in ("xhigh", "high", "low", "minimal"):
            look_ahead = look_ahead_for(delay, known)
            fit, lags = places[f"{look_ahead:g}"], loop_lags(server)
            (one,) = asyncio.run(run_live(Target(server.url), bench.clips, [fit + 3], SECONDS * bench.seconds, delay))
            bound = look_ahead + FRAME + IN_TIME
            bench.report.add(
                f"embedded, all {fit} places for delay {delay} taken and 3 more asked for",
                f"final {1000 * one.lag(0.5):.0f} ms, p95 {1000 * one.lag(0.95):.0f} ms beyond the silence; "
                f"event loop p99 <= {1000 * late(server, lags):.0f} ms; refused or failed: {dict(one.errors)}",
                f"p95 <= {1000 * bound:.0f} ms, event loop 20 ms, 3 x 503",
            )


def first(bench: Bench) -> None:
    """Time the first words at low load and the smallest look-ahead."""
    with serve() as server:
        (one,) = asyncio.run(run_live(Target(server.url), bench.clips, [2], 10 * bench.seconds, "minimal"))
    measured = f"{1000 * one.first_words(0.5):.0f} ms, p95 {1000 * one.first_words(0.95):.0f} ms ({len(one.partials)})"
    bench.report.add("first words after speech began, 2 streams, delay minimal", measured, "")


def stepping(bench: Bench) -> None:
    """Engine alone, one core: streams stepped together against one after the other. They take turns."""
    engine = OnnxStreamingEngine(read_bundle(Catalog(bench.work).embedded))
    for delay in ("xhigh", "high", "minimal"):
        look_ahead = look_ahead_for(delay, engine.info.look_aheads)
        turns = [
            [streams_per_core(engine, bench, look_ahead, together) for together in (TOGETHER, 1)] for _ in range(TURNS)
        ]
        together, alone = (sorted(column)[TURNS // 2] for column in zip(*turns, strict=True))
        ratios = ", ".join(f"{one / other:.2f}" for one, other in turns)
        bench.report.add(
            f"embedded, engine alone, delay {delay}, streams per core, {TOGETHER} together",
            f"{together:.0f}; one at a time {alone:.0f}; {together / alone:.1f} times ({ratios})",
            "",
        )


def streams_per_core(engine: OnnxStreamingEngine, bench: Bench, look_ahead: float, together: int) -> float:
    """Return how many streams one core hears in real time, by the processor time that they take."""
    pieces = round(bench.seconds * SAMPLE_RATE / PIECE)
    sounds = [script(bench.waveforms, number, pieces * PIECE) for number in range(TOGETHER)]
    states = [engine.open(look_ahead) for _ in sounds]
    with threadpool_limits(1, user_api="blas"):
        started = time.thread_time()
        for piece in range(pieces):
            heard = [
                (state, sound[piece * PIECE : (piece + 1) * PIECE]) for state, sound in zip(states, sounds, strict=True)
            ]
            for begin in range(0, TOGETHER, together):
                engine.step(heard[begin : begin + together])
        return TOGETHER * pieces * PIECE / SAMPLE_RATE / (time.thread_time() - started)


def carried(bench: Bench) -> None:
    """Streams whose finals come in time, of what the engine alone can step on the same cores.

    With the embedded model the larger look-aheads are left out: so many clients would need cores of their own.
    """
    embedded = Catalog(bench.work).embedded
    for name, folder, target, chosen in (
        ("109M", bench.large_streaming, 90, ("xhigh", "minimal")),
        ("embedded", embedded, 60, ("minimal",)),
    ):
        engine = OnnxStreamingEngine(read_bundle(folder))
        with serve([sys.executable, "-m", "nautilus", "serve", "--model", str(folder)], UNBOUNDED) as server:
            for delay in chosen:
                look_ahead = look_ahead_for(delay, engine.info.look_aheads)
                bound = look_ahead + engine.info.frame_seconds + IN_TIME
                can = max(steps_alone(engine, bench, look_ahead, together) for together in BATCHES)
                few, said = most_in_time(bench, server, delay, bound, can)
                can = (can + max(steps_alone(engine, bench, look_ahead, together) for together in BATCHES)) / 2
                bench.report.add(
                    f"{name}, delay {delay}, streams with p95 of finals within {1000 * bound:.0f} ms, "
                    "of the engine alone",
                    f"{few} of {can:.1f}: {100 * few / can:.0f} % ({said})",
                    f">= {target} %",
                )


def most_in_time(bench: Bench, server: Server, delay: str, bound: float, can: float) -> tuple[int, str]:
    """Return how many streams have 95 of 100 finals within the bound, of what the engine can, and what was tried."""
    few, many, said = 0, round(can) + 1, []
    while many - few > max(1, round(SHARP * can)):
        streams = (few + many) // 2
        (one,) = asyncio.run(run_live(Target(server.url), bench.clips, [streams], SECONDS * bench.seconds, delay))
        said.append(f"{streams}: {1000 * one.lag(0.95):.0f} ms" + (f" {dict(one.errors)}" if one.errors else ""))
        few, many = (few, streams) if one.errors or not one.lag(0.95) <= bound else (streams, many)
    return few, ", ".join(said)


def steps_alone(engine: OnnxStreamingEngine, bench: Bench, look_ahead: float, together: int) -> float:
    """Return how many streams the engine hears in real time with every core, so many in each step."""
    workers = cores()
    sounds = [script(bench.waveforms, number, round(60 * SAMPLE_RATE)) for number in range(together)]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as threads:
        started = time.perf_counter()

        def work(_: int) -> float:
            states, heard = [engine.open(look_ahead) for _ in sounds], 0
            while time.perf_counter() - started < bench.seconds and heard < len(sounds[0]):
                pieces = [sound[heard : heard + PIECE] for sound in sounds]
                engine.step(list(zip(states, pieces, strict=True)))
                heard += PIECE
            return together * heard / SAMPLE_RATE / (time.perf_counter() - started)

        return sum(threads.map(work, range(workers)))


def script(waveforms: Sequence[Waveform], number: int, samples: int) -> Waveform:
    """Return what one stream plays: recordings in an order of its own."""
    parts: list[Waveform] = []
    for waveform in islice(cycle(waveforms), number % len(waveforms), None):
        parts.append(waveform)
        if sum(map(len, parts)) >= samples:
            break
    return np.concatenate(parts)[:samples]


def delays(bench: Bench) -> None:
    """Word errors of each delay, live against as a file, through the whole server."""
    with serve(environment=UNBOUNDED) as server:
        for name, sets in SETS.items():
            utterances = list(read_manifest(bench.speech / name)) if (bench.speech / name).is_file() else []
            for chosen in sets:
                alike = [one for one in utterances if one.set == chosen]
                alike = alike[:: max(1, -(-len(alike) // CLIPS))]
                if alike:
                    heard = asyncio.run(by_delay(server, alike))
                    rates = "; ".join(f"{delay} {words}" for delay, words in heard.items())
                    bench.report.add(f"word errors of {chosen} ({len(alike)}), live by delay", rates, "")


async def by_delay(server: Server, utterances: Sequence[Utterance]) -> dict[str, str]:
    """Return the word error rate of a set as files and by delay."""
    waveforms = decode([one.path for one in utterances])
    turns = asyncio.Semaphore(AT_ONCE)

    async def of(delay: str) -> str:
        async def one(utterance: Utterance, waveform: Waveform) -> Score:
            async with turns:
                text = await (heard_live(server, waveform, delay) if delay else heard_file(server, utterance))
            return score(utterance.text, text, utterance.language, plain=True)

        rated = rate(await asyncio.gather(*map(one, utterances, waveforms)))
        return f"{100 * rated.wer:.1f} % ({100 * rated.low:.1f} to {100 * rated.high:.1f})"

    return {"files": await of("")} | {delay: await of(delay) for delay in reversed(DELAYS)}


async def heard_file(server: Server, utterance: Utterance) -> str:
    """Return what is heard of a recording as an upload."""
    async with httpx.AsyncClient(timeout=60) as client:
        reply = await client.post(f"{server.url}/transcribe", files={"file": utterance.path.read_bytes()})
    return str(reply.raise_for_status().json()["text"])


async def heard_live(server: Server, waveform: Waveform, delay: str) -> str:
    """Return what is heard of a recording as a stream."""
    from websockets.asyncio.client import connect

    url = f"{server.url.replace('http', 'ws')}/v1/stream?delay={delay}"
    async with connect(url, compression=None, max_size=None) as connection:
        await connection.send((np.clip(waveform, -1, 1) * 32_767).astype("<i2").tobytes())
        await connection.send('{"type": "end"}')
        events = [json.loads(message) async for message in connection]
    return " ".join(event["text"] for event in events if event["type"] == "final")


def late(server: Server, before: dict[float, float]) -> float:
    """Return the seconds that the event loop was late at most, but for 1 % of the time since `before`."""
    return percentile({bound: count - before[bound] for bound, count in loop_lags(server).items()}, 0.99)


def loop_lags(server: Server) -> dict[float, float]:
    """Return how often the server's event loop was at most so many seconds late, since it started."""
    text = httpx.get(f"{server.url}/metrics").raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        float(one.labels["le"]): one.value for one in samples if one.name == "nautilus_event_loop_lag_seconds_bucket"
    }


def percentile(buckets: dict[float, float], share: float) -> float:
    """Return the bound that `share` of the values stay under."""
    return min((bound for bound, count in buckets.items() if count >= share * buckets[inf]), default=inf)
