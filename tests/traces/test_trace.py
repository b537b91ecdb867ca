"""What rooms say is what a collector gets."""

import asyncio
import socket
import time

import pytest

from nautilus.errors import BadAudioError, ConfigurationError
from nautilus.traces.otlp import open_tracer
from nautilus.traces.settings import TraceSettings, are_wanted
from nautilus.traces.trace import NOWHERE, OFF, Tracer, carried, here, leaf, span
from tests.traces.collector import Collector

ON = TraceSettings(enabled=True)
TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{ABOVE}-01", "tracestate": "vendor=some"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{ABOVE}-00"}


def test_where_traces_are_off_there_is_nowhere_to_write() -> None:
    with OFF.follow(SAMPLED, "request", kind="server") as trace, span("decode") as inner, leaf("GET") as outer:
        assert trace is inner is outer is NOWHERE
        assert (here(), carried()) == (None, {})


async def test_spans_lie_in_each_other_in_the_trace_of_the_caller(tracer: Tracer, collector: Collector) -> None:
    with tracer.follow(SAMPLED, "request", {"a": 1}, kind="server") as trace:
        began = time.monotonic()
        with span("decode", {"b": "two"}) as decoding:
            decoding.note({"c": 0.5})
        trace.add("queue", began, time.monotonic(), {"d": True})
        trace.rename("POST /transcribe")
    spans = collector.until(lambda came: len(came) == 3)
    (request,) = collector.named("POST /transcribe")
    assert {span.trace for span in spans} == {TRACE}
    assert (request.parent, request.state, request.kind) == (ABOVE, "vendor=some", "server")
    for inner in (*collector.named("decode"), *collector.named("queue")):
        assert (inner.parent, inner.kind) == (request.id, "internal")
        assert request.holds(inner)
    told: dict[str, object] = {}
    for one in spans:
        told |= one.attributes
    assert told == {"a": 1, "b": "two", "c": 0.5, "d": True}
    assert abs(request.until / 1e9 - time.time()) < 60


async def test_a_task_inherits_the_trace_of_who_started_it(tracer: Tracer, collector: Collector) -> None:
    async def work() -> None:
        with span("work"):
            await asyncio.sleep(0)

    with tracer.follow({}, "request"):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
    assert here() is None
    assert collector.named("work")[0].parent == collector.named("request")[0].id


async def test_what_is_not_sampled_is_named_and_not_sent(tracer: Tracer, collector: Collector) -> None:
    with tracer.follow(UNSAMPLED, "request") as trace, span("decode") as inner:
        assert (trace.id, trace.recorded, inner, here()) == (TRACE, False, NOWHERE, None)
        assert carried()["traceparent"].startswith(f"00-{TRACE}-")
        assert carried()["traceparent"].endswith("-00")
    with tracer.follow(SAMPLED, "another"):
        pass
    assert [span.name for span in collector.until(len)] == ["another"]


@pytest.mark.parametrize("given", [{}, {"traceparent": "00-nonsense-01"}, {"tracestate": "a=b"}])
async def test_who_names_no_trace_begins_one(given: dict[str, str], tracer: Tracer, collector: Collector) -> None:
    with tracer.follow(given, "request") as trace:
        assert trace.id not in ("", TRACE)
    (request,) = collector.named("request")
    assert (request.parent, request.trace) == ("", trace.id)


async def test_errors_are_told_by_their_code_and_nothing_else(tracer: Tracer, collector: Collector) -> None:
    with tracer.follow({}, "request"):
        for name, error in (("decode", BadAudioError("secret")), ("work", KeyError("secret"))):
            with pytest.raises(type(error)), span(name):
                raise error
        with pytest.raises(asyncio.CancelledError), leaf("GET", kind="client"):
            raise asyncio.CancelledError
    told = {name: collector.named(name)[0] for name in ("decode", "work", "GET", "request")}
    assert {name: one.failed for name, one in told.items()} == {
        "decode": True,
        "work": True,
        "GET": False,
        "request": False,
    }
    reasons = [one.attributes.get("error.type") for one in told.values()]
    assert reasons == ["bad_audio", "KeyError", "cancelled", None]
    assert "secret" not in str(collector.spans)


async def test_spans_beyond_the_most_are_counted_and_left_out(tracer: Tracer, collector: Collector) -> None:
    with tracer.follow(SAMPLED, "request") as trace:
        for _ in range(25):
            with span("window"), span("queue"):
                assert carried()["traceparent"].split("-")[1] == trace.id
    (request,) = collector.named("request")
    assert request.attributes == {"nautilus.spans_left_out": 30}
    assert len(collector.spans) == 21


async def test_spans_point_to_each_other(tracer: Tracer, collector: Collector) -> None:
    with tracer.follow({}, "one") as one, tracer.follow({}, "two") as two:
        one.link(two)
        batch = two.begin("batch", links=[one])
        assert batch is not None
        batch.end()
    assert collector.named("one")[0].links == (collector.named("two")[0].id,)
    assert collector.named("batch")[0].links == (collector.named("one")[0].id,)


async def test_a_collector_that_does_not_answer_delays_the_end_by_no_more_than_the_limit(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    del collector
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with open_tracer(TraceSettings(enabled=True, last_seconds=0.2)) as tracer:
            with tracer.follow({}, "request"):
                pass
            ending = time.monotonic()
    assert 0.2 <= time.monotonic() - ending < 5  # where the exporter itself waits for ten seconds


async def test_the_standard_variables_are_honoured(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "speech")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=us")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    for ratio in ("0", "1"):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
        async with open_tracer(ON) as tracer:
            with tracer.follow(SAMPLED, f"ratio {ratio}") as trace:
                assert trace.recorded == (ratio == "1")
    service = collector.named("ratio 1")[0].service
    assert (service["service.name"], service["deployment.environment.name"]) == ("speech", "test")
    assert service["service.version"] == "9"
    assert collector.headers[0]["x-tenant"] == "us"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_can_turn_traces_off(variables: dict[str, str], wanted: bool) -> None:
    assert are_wanted(ON, variables) is wanted
    assert not are_wanted(TraceSettings(), variables)


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(variables.values()))):
        are_wanted(ON, variables)
