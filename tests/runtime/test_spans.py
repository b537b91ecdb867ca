"""A batch is told in the trace of each request that had a window in it."""

import asyncio

import numpy as np
import pytest

from nautilus.engines.fake import FakeEngine
from nautilus.errors import EngineError
from nautilus.runtime.batcher import Batcher
from nautilus.traces.trace import OFF, Tracer
from nautilus.types import USUAL, Claim, Priority, Waveform
from tests.runtime.test_batcher import EN, serving, silence
from tests.traces.collector import Collector
from tests.traces.conftest import collector, tracer

__all__ = ["collector", "tracer"]


async def ask(tracer: Tracer, batcher: Batcher, name: str, *sounds: Waveform) -> None:
    with tracer.follow({}, name):
        async with asyncio.TaskGroup() as tasks:
            for sound in sounds:
                tasks.create_task(batcher.submit(sound, EN, USUAL))


async def test_windows_that_share_a_batch_name_it_and_lead_to_each_other(tracer: Tracer, collector: Collector) -> None:
    async with serving(FakeEngine()) as batcher, asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(tracer, batcher, "one", silence(2), silence(2)))
        tasks.create_task(ask(tracer, batcher, "two", silence(1.8)))
        tasks.create_task(ask(OFF, batcher, "nobody", silence(2)))
    one, two = (collector.named(name)[0] for name in ("one", "two"))
    batches = collector.named("batch", 3)
    assert {batch.attributes["nautilus.batch.id"] for batch in batches} == {batches[0].attributes["nautilus.batch.id"]}
    assert {batch.attributes["nautilus.batch.windows"] for batch in batches} == {4}
    assert batches[0].attributes["nautilus.batch.padding_seconds"] == pytest.approx(0.2)
    assert sorted(batch.attributes["nautilus.audio_seconds"] for batch in batches) == [1.8, 2, 2]
    assert {(batch.trace, batch.links) for batch in batches} == {(one.trace, (two.id,)), (two.trace, (one.id,))}
    for request, inner in ((one, 2), (two, 1)):
        own = [span for span in collector.spans if span.trace == request.trace]
        assert sorted(span.name for span in own if span.parent == request.id) == ["batch"] * inner + ["queue"] * inner
        for batch in (span for span in own if span.name == "batch"):
            (engine,) = [span for span in own if span.parent == batch.id]
            assert engine.name == "engine"
            assert request.holds(batch)
            assert batch.holds(engine)
            (queue,) = [
                span
                for span in own
                if span.name == "queue" and span.attributes["nautilus.window"] == batch.attributes["nautilus.window"]
            ]
            assert queue.until == batch.since


async def test_what_a_model_fails_at_is_told_to_its_request_alone(tracer: Tracer, collector: Collector) -> None:
    broken = np.full(16_000, np.nan, np.float32)
    async with serving(FakeEngine()) as batcher:
        good = asyncio.create_task(ask(tracer, batcher, "good", silence(1)))  # noqa: TID251 - awaited below
        with pytest.raises(ExceptionGroup) as failed:
            await ask(tracer, batcher, "bad", broken)
        await good
        assert failed.group_contains(EngineError)
    told = {collector.named(name)[0].trace: name for name in ("good", "bad")}
    batches = {told[batch.trace]: batch for batch in collector.named("batch", 2)}
    assert {name: batch.failed for name, batch in batches.items()} == {"good": False, "bad": True}
    assert batches["bad"].attributes["error.type"] == "engine_error"


async def test_hearings_of_live_utterances_are_not_told_one_by_one(tracer: Tracer, collector: Collector) -> None:
    async with serving(FakeEngine()) as batcher:
        with tracer.follow({}, "stream"):
            await batcher.submit(silence(1), EN, Claim(Priority.LIVE))
    collector.named("stream")
    assert [span.name for span in collector.spans] == ["stream"]


async def test_histograms_keep_a_traced_value_of_each_bucket(tracer: Tracer) -> None:
    async with serving(FakeEngine()) as batcher:
        await batcher.submit(silence(1), EN, USUAL)
        meters = batcher.state().meters
        assert (meters.queue.exemplars, meters.batch_seconds.exemplars) == ({}, {})
        with tracer.follow({}, "request") as trace:
            await batcher.submit(silence(1), EN, USUAL)
    for histogram in (meters.queue, meters.batch_seconds):
        (exemplar,) = histogram.exemplars.values()
        assert exemplar.trace == trace.id
        assert 0 <= exemplar.value <= histogram.sum
