"""A real server process, as a collector sees it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from nautilus.settings import Settings
from nautilus.traces.settings import TraceSettings
from nautilus.web.middleware import QUIET
from tests.conftest import fake_engine, running
from tests.engines.sounds import sample
from tests.jobs.receiver import SECRET, receiving
from tests.jobs.servers import JOBS, Server, serving
from tests.traces.collector import Collector, Told, collecting
from tests.web.clips import SPEECH, spoken, wav
from tests.web.test_resume import break_off
from tests.web.test_stream import HEARD, finals, pcm

ABOVE = "00f067aa0ba902b7"


def named(trace: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{ABOVE}-{flags}", "tracestate": "vendor=some"}


@dataclass(frozen=True)
class Traced:
    server: Server
    collector: Collector

    @property
    def url(self) -> str:
        return self.server.url

    def trace(self, trace: str, last: str, count: int = 1) -> list[Told]:
        """Return the spans of a trace, once there are so many of a name."""

        def done(spans: Sequence[Told]) -> bool:
            return sum(span.trace == trace and span.name == last for span in spans) >= count

        return [span for span in self.collector.until(done) if span.trace == trace]

    def log(self, trace: str) -> list[str]:
        """Return what is logged of a trace."""
        lines = [json.loads(line) for line in self.server.log.read_text().splitlines()]
        return [line["event"] for line in lines if line.get("trace_id") == trace]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is remembered what fits into a batch."""
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="module")
def traced(cache: Path) -> Iterator[Traced]:
    """A server that is traced, with the embedded model."""
    own = {"NAUTILUS_STORAGE__DATA_DIR": str(cache / "data"), "NAUTILUS_LOG_FORMAT": "json"}
    with collecting() as collector, serving(cache, **own, **collector.variables) as server:
        yield Traced(server, collector)


def children(spans: Sequence[Told], parent: str) -> list[str]:
    """Return the names of the spans in one, by when they began."""
    return [span.name for span in sorted(spans, key=lambda span: span.since) if span.parent == parent]


def test_an_upload_is_one_trace_from_its_client_to_the_process_of_the_model(traced: Traced) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    files = {"file": SPEECH.read_bytes()}
    answer = httpx.post(f"{traced.url}/v1/audio/transcriptions", files=files, headers=named(trace), timeout=60)
    assert answer.json()["text"] == HEARD
    spans = traced.trace(trace, "POST /v1/audio/transcriptions")
    (request,) = [span for span in spans if span.parent == ABOVE]
    assert (request.name, request.kind, request.state) == ("POST /v1/audio/transcriptions", "server", "vendor=some")
    assert answer.headers["traceresponse"] == f"00-{trace}-{request.id}-01"
    assert children(spans, request.id) == ["receive", "decode", "enhance", "queue", "batch", "render"]
    (batch,) = [span for span in spans if span.name == "batch"]
    assert children(spans, batch.id) == ["engine"]
    by_id = {span.id: span for span in spans}
    assert all(by_id[span.parent].holds(span) for span in spans if span is not request)
    told = request.attributes
    assert told["nautilus.request_id"] == answer.headers["x-request-id"]
    assert (told["http.response.status_code"], told["nautilus.model"]) == (200, "nautilus-en-4m")
    assert told["nautilus.audio_seconds"] == batch.attributes["nautilus.batch.audio_seconds"]
    assert request.service["service.name"] == "nautilus"
    assert traced.log(trace) == ["request"]
    assert HEARD not in str(spans)


def test_what_is_not_sampled_is_not_sent_and_still_found_in_the_log(traced: Traced) -> None:
    trace, after = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    for one, flags in ((trace, "00"), (after, "01")):
        answer = httpx.get(f"{traced.url}/v1/models", headers=named(one, flags))
        assert answer.headers["traceresponse"].startswith(f"00-{one}-")
        assert answer.headers["traceresponse"].endswith(flags)
    traced.trace(after, "GET /v1/models")
    assert trace not in {span.trace for span in traced.collector.spans}
    assert traced.log(trace) == ["request"]


def test_what_is_asked_all_the_time_is_not_traced(traced: Traced) -> None:
    for path in QUIET:
        assert "traceresponse" not in httpx.get(traced.url + path).headers
    trace = "cccccccccccccccccccccccccccccccc"
    httpx.get(f"{traced.url}/nothing", headers=named(trace))
    (request,) = traced.trace(trace, "GET")
    assert request.attributes["http.response.status_code"] == 404
    assert not request.failed
    assert not [span for span in traced.collector.spans if span.attributes.get("url.path") in QUIET]


def test_latencies_have_examples_where_openmetrics_is_spoken(traced: Traced) -> None:
    trace = "dddddddddddddddddddddddddddddddd"
    httpx.get(f"{traced.url}/v1/models", headers=named(trace))
    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    lines = httpx.get(f"{traced.url}/metrics", headers=asked).text.splitlines()
    (line,) = [line for line in lines if f'# {{trace_id="{trace}"}}' in line]
    assert line.startswith('nautilus_http_request_seconds_bucket{le="')
    assert trace not in httpx.get(f"{traced.url}/metrics").text


def test_a_live_stream_is_a_span_with_one_for_each_utterance(traced: Traced) -> None:
    trace, again = "11111111111111111111111111111111", "22222222222222222222222222222222"
    url = f"{traced.url.replace('http', 'ws')}/v1/stream"
    sound = pcm(sample())
    with connect(f"{url}?delay=xhigh", compression=None, additional_headers=named(trace)) as connection:
        assert connection.response is not None
        assert connection.response.headers["traceresponse"].startswith(f"00-{trace}-")
        ready = json.loads(connection.recv())
        connection.send(sound)
        connection.send(json.dumps({"type": "commit"}))
        while json.loads(connection.recv(timeout=20))["type"] != "final":
            pass
        break_off(connection, 0)
    resuming = f"{url}?session={ready['session']}&after=0"
    with connect(resuming, compression=None, additional_headers=named(again)) as connection:
        connection.send(sound)
        connection.send(json.dumps({"type": "end"}))
        assert finals([json.loads(message) for message in connection]) == [HEARD, HEARD]
    spans = traced.trace(trace, "stream")
    (stream,) = [span for span in spans if span.name == "stream"]
    (first,) = traced.trace(trace, "GET /v1/stream")[-1:]
    assert (
        stream.parent
        == next(span for span in traced.collector.spans if span.parent == ABOVE and span.trace == trace).id
    )
    assert first.trace == trace
    assert children(spans, stream.id) == ["utterance", "utterance"]
    assert all(stream.holds(span) for span in spans if span.parent == stream.id)
    assert [span.attributes["nautilus.words"] for span in spans if span.name == "utterance"] == [len(HEARD.split())] * 2
    (second,) = traced.trace(again, "GET /v1/stream")
    assert (second.links, second.attributes["http.response.status_code"]) == ((stream.id,), 101)
    assert ready["session"] not in str(traced.collector.spans)


def test_a_client_that_hangs_up_is_no_failure_of_its_stream(traced: Traced) -> None:
    trace = "44444444444444444444444444444444"
    url = f"{traced.url.replace('http', 'ws')}/v1/realtime?intent=transcription"
    with connect(url, additional_headers=named(trace)) as connection:
        assert json.loads(connection.recv(timeout=20))["type"] == "session.created"
    spans = traced.trace(trace, "GET /v1/realtime")
    assert sorted((span.name, span.failed) for span in spans) == [("GET /v1/realtime", False), ("stream", False)]


@pytest.mark.timeout(200)
def test_a_job_that_is_killed_goes_on_in_the_trace_of_its_request(cache: Path, tmp_path: Path) -> None:
    trace = "33333333333333333333333333333333"
    with collecting() as collector, receiving() as receiver:
        place = {
            "NAUTILUS_STORAGE__DATA_DIR": str(tmp_path / "data"),
            "NAUTILUS_JOBS__CHECKPOINT_SECONDS": "0.1",
            "NAUTILUS_JOBS__DEAD_AFTER": "6",
            "NAUTILUS_WEBHOOKS__SECRETS": json.dumps([SECRET]),
            "NAUTILUS_OUTSIDE__NETWORKS": '["127.0.0.0/8"]',
            "NAUTILUS_OUTSIDE__PORTS": "[]",
        } | collector.variables
        with serving(cache, **place) as server:
            form = {"webhook_url": receiver.url}
            files = {"file": spoken(300)}
            answer = httpx.post(f"{server.url}{JOBS}", files=files, data=form, headers=named(trace), timeout=60)
            job = answer.raise_for_status().json()["id"]
            collector.named("batch", 3)
            server.kill()
            killed = len([span for span in collector.spans if span.name == "batch"])
            assert "job" not in {span.name for span in collector.spans}, "the job was done before the server was killed"
        with serving(cache, **place) as server:
            server.until(lambda: server.ended(job))
            assert server.job(job)["status"] == "completed"
            collector.named("POST")
            spans = list(collector.spans)
    (request,) = [span for span in spans if span.parent == ABOVE]
    ours = [span for span in spans if span.trace == trace]
    (run,) = [span for span in ours if span.name == "job"]
    assert (run.parent, run.kind, run.attributes["nautilus.job.id"]) == (request.id, "consumer", job)
    assert run.attributes["nautilus.job.run"] == 2
    assert children(ours, run.id) == ["file"]
    assert len([span for span in ours if span.name == "batch"]) > killed
    assert len({span.service["service.instance.id"] for span in ours}) == 2
    (webhook,) = [span for span in ours if span.name == "webhook"]
    (post,) = [span for span in ours if span.name == "POST"]
    assert (webhook.parent, webhook.attributes["nautilus.webhook.outcome"]) == (request.id, "delivered")
    assert (post.parent, post.kind, post.attributes["http.response.status_code"]) == (webhook.id, "client", 204)
    (headers,) = receiver.headers
    assert (headers["traceparent"], headers["tracestate"]) == (f"00-{trace}-{post.id}-01", "vendor=some")


def test_a_collector_that_is_away_harms_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        traces = TraceSettings(enabled=True, last_seconds=0.2)
        with running(settings.model_copy(update={"traces": traces}), fake_engine) as url:
            for _ in range(3):
                answer = httpx.post(f"{url}/transcribe", files={"file": wav(2)}, timeout=40)
                assert answer.json()["text"]
                assert answer.headers["traceresponse"]


AWAY = """
import asyncio
from nautilus.traces.otlp import open_tracer
from nautilus.traces.settings import TraceSettings

async def main():
    async with open_tracer(TraceSettings(enabled=True, last_seconds=0.2)) as tracer:
        with tracer.follow({}, "request"):
            pass

asyncio.run(main())
"""


def test_a_collector_that_is_away_holds_up_no_end_of_a_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}
        command = [sys.executable, "-c", AWAY]
        subprocess.run(command, env=os.environ | variables, check=True, timeout=40)
