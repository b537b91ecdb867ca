"""What is asked of others names the span that asks."""

from contextlib import aclosing

import pytest

from nautilus.errors import FetchRefusedError
from nautilus.outside.door import Outside
from nautilus.outside.fetch import fetch
from nautilus.traces.trace import Tracer
from tests.outside.server import HERE, always, serving
from tests.traces.collector import Collector
from tests.traces.test_trace import SAMPLED, TRACE, UNSAMPLED


async def test_a_fetch_is_a_span_that_the_other_server_is_told(tracer: Tracer, collector: Collector) -> None:
    async with serving(always(200, b"sound")) as server, Outside(HERE) as outside:
        with tracer.follow(SAMPLED, "job") as job:
            async with aclosing(fetch(outside, f"{server.url}/a.wav?secret=1", 100)) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == b"sound"
    (get,) = collector.named("GET")
    (asked,) = server.requests
    assert asked.headers["traceparent"] == f"00-{TRACE}-{get.id}-01"
    assert asked.headers["tracestate"] == SAMPLED["tracestate"]
    assert (get.kind, get.parent, get.trace) == ("client", collector.named("job")[0].id, job.id)
    told = {"http.request.method": "GET", "server.address": "127.0.0.1", "server.port": server.port}
    assert get.attributes == told | {"http.response.status_code": 200}


async def test_what_others_refuse_is_told_by_its_status(tracer: Tracer, collector: Collector) -> None:
    async with serving(always(404)) as server, Outside(HERE) as outside:
        with pytest.raises(FetchRefusedError), tracer.follow(SAMPLED, "job"):
            async with aclosing(fetch(outside, server.url, 100)) as chunks:
                await anext(chunks)
    (get,) = collector.named("GET")
    assert (get.failed, get.attributes["http.response.status_code"]) == (True, 404)


async def test_others_are_told_of_a_trace_that_is_not_sampled_and_of_none_where_there_is_none(tracer: Tracer) -> None:
    async with serving(always(200, b"sound")) as server, Outside(HERE) as outside:
        with tracer.follow(UNSAMPLED, "job"):
            async with aclosing(fetch(outside, server.url, 100)) as chunks:
                await anext(chunks)
        async with aclosing(fetch(outside, server.url, 100)) as chunks:
            await anext(chunks)
    unsampled, none = server.requests
    assert unsampled.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert unsampled.headers["traceparent"].endswith("-00")
    assert "traceparent" not in none.headers
