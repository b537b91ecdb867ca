"""Examples of traces reach a real Prometheus."""

import time
from pathlib import Path

import httpx
import pytest

from nautilus.settings import Settings
from nautilus.traces.settings import TraceSettings
from tests.conftest import fake_engine, running
from tests.deploy.test_prometheus import ask, prometheus
from tests.traces.conftest import collector
from tests.traces.test_trace import SAMPLED, TRACE
from tests.web.clips import wav

__all__ = ["collector"]


@pytest.mark.usefixtures("collector")
def test_prometheus_takes_the_trace_of_a_slow_request_with_its_latency(settings: Settings, tmp_path: Path) -> None:
    traced = settings.model_copy(update={"traces": TraceSettings(enabled=True)})
    with running(traced, fake_engine) as url, prometheus(tmp_path, url, "exemplar-storage") as watching:
        sent = httpx.post(f"{url}/transcribe", files={"file": wav(2)}, headers=SAMPLED, timeout=40)
        assert sent.is_success
        deadline = time.monotonic() + 40
        found: list[str] = []
        while TRACE not in found and time.monotonic() < deadline:
            answer = ask(
                watching,
                "query_exemplars",
                query="nautilus_http_request_seconds_bucket",
                start=str(time.time() - 100),
                end=str(time.time() + 100),
            )
            found = [one["labels"]["trace_id"] for series in answer or () for one in series["exemplars"]]
        assert found == [TRACE]
