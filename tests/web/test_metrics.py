import json
import re
from collections.abc import Mapping

import httpx
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from nautilus.observe import Histogram
from nautilus.runtime.queue import BatchLimits
from nautilus.settings import Settings
from nautilus.web.app import create_app
from nautilus.web.metrics import HTTP_METRICS, METRICS, Metric
from tests.conftest import ROOT, fake_engine, running
from tests.engines.sounds import sample
from tests.web.clips import wav
from tests.web.test_stream import converse, opened, pcm

ALL: list[Metric[object]] = [*HTTP_METRICS, *METRICS]  # type: ignore[list-item]  # whatever they are read from


def measured(text: str) -> dict[str, float]:
    """Return the samples of a page, by name and labels in the order of the labels' names."""
    return {
        sample.name + "".join(f"[{value}]" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page(url: str) -> dict[str, float]:
    return measured(httpx.get(f"{url}/metrics").raise_for_status().text)


def grown(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    return after[name] - before.get(name, 0.0)


def test_the_docs_name_every_metric_and_no_other() -> None:
    rows = re.findall(
        r"^\| `(nautilus_\w+)` \| (\w+) \| ([^|]*) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
    )
    told = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows]
    assert sorted(told) == sorted((metric.name, metric.kind, metric.labels) for metric in ALL)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_names_follow_prometheus(metric: Metric[object]) -> None:
    assert re.fullmatch(r"nautilus(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")


def test_requests_are_counted_by_their_route_never_by_their_path(settings: Settings) -> None:
    with TestClient(create_app(settings, load=fake_engine), base_url="http://localhost") as client:
        for path in ("/v1/models/nobody", "/v1/models/somebody", "/nothing/1", "/nothing/2"):
            assert client.get(path).status_code == 404
        assert client.post("/transcribe", files={"file": wav(2)}).is_success
        client.request("BREW", "/transcribe")
        now = measured(client.get("/metrics").text)
    assert now["nautilus_http_requests_total[GET][none][404]"] == 2
    assert now["nautilus_http_requests_total[GET][/v1/models/{name:path}][404]"] == 2
    assert now["nautilus_http_requests_total[POST][/transcribe][200]"] == 1
    assert now["nautilus_http_request_seconds_count[POST][/transcribe]"] == 1
    assert "BREW" not in str(now)
    assert now["nautilus_recording_audio_seconds_total"] == 2
    assert now["nautilus_batch_windows_count[nautilus-en-4m]"] == 1
    assert now["nautilus_batch_audio_seconds_total[nautilus-en-4m]"] == 2
    assert now["nautilus_model_ready[nautilus-en-4m]"] == 1
    assert now["nautilus_model_load_seconds[nautilus-en-4m]"] > 0


def test_two_applications_in_one_process_count_for_themselves(settings: Settings) -> None:
    with (
        TestClient(create_app(settings, load=fake_engine), base_url="http://localhost") as one,
        TestClient(create_app(settings, load=fake_engine), base_url="http://localhost") as two,
    ):
        one.get("/health/live")
        assert "/health/live" in one.get("/metrics").text
        assert "/health/live" not in two.get("/metrics").text


def test_openmetrics_is_written_where_it_is_asked_for(fake_server: str) -> None:
    answer = httpx.get(f"{fake_server}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_live_streams_are_counted(server: str) -> None:
    before = page(server)
    converse(server, [pcm(sample())])
    after = page(server)
    assert grown(before, after, "nautilus_live_audio_seconds_total") == pytest.approx(len(sample()) / 16_000, abs=0.01)
    assert grown(before, after, "nautilus_live_utterances_total") == 1
    assert grown(before, after, "nautilus_live_lag_seconds_count") >= 2
    assert grown(before, after, "nautilus_step_streams_count[nautilus-en-4m]") >= 4
    assert after["nautilus_event_loop_lag_seconds_count"] > 0


def test_open_streams_and_their_room_are_told_and_given_back(settings: Settings) -> None:
    with running(settings.model_copy(update={"batch": BatchLimits(max_streams=2)})) as url:
        empty = httpx.get(f"{url}/health/ready").json()["streams"]
        assert empty == {"open": 0, "capacity": {"1.04": 2, "0.48": 2, "0.08": 2, "0": 2}, "taken": 0.0}
        with opened(url) as first, opened(url, "delay=high") as second:
            for connection in (first, second):
                assert json.loads(connection.recv(timeout=10))["type"] == "ready"
            full = httpx.get(f"{url}/health/ready").json()["streams"]
            assert (full["open"], full["taken"]) == (2, 1.0)
            with pytest.raises(InvalidStatus) as refusal:
                opened(url)
            assert refusal.value.response.status_code == 503
            assert refusal.value.response.headers["Retry-After"] == "5"
            now = page(url)
            assert now["nautilus_live_streams[1.04][nautilus-en-4m]"] == 1
            assert now["nautilus_live_streams[0.48][nautilus-en-4m]"] == 1
            assert now["nautilus_live_streams_refused_total[nautilus-en-4m]"] == 1
            assert now["nautilus_live_conversations[held]"] == 2
            second.send(json.dumps({"type": "end"}))
            assert [json.loads(message)["type"] for message in second] == ["end"]
            converse(url, [pcm(sample())])


def test_a_histogram_counts_each_value_once() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.add(value)
    assert (histogram.counts, histogram.sum) == ([2, 1, 1], 6.0)
