import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import httpx
import pytest
from fastapi.testclient import TestClient

from nautilus.engines.fake import FakeEngine
from nautilus.errors import ModelLoadError, NautilusError
from nautilus.runtime.queue import BatchLimits
from nautilus.settings import Settings
from nautilus.types import Hypothesis, Options, Waveform
from nautilus.web.app import create_app
from tests.conftest import fake_engine
from tests.web.clips import wav

HEALTH = ("/health", "/health/live", "/health/ready", "/v1/health/live", "/v1/health/ready")


@pytest.mark.parametrize("path", [*HEALTH, "/docs", "/openapi.json"])
def test_what_operators_ask_is_answered(fake_server: str, path: str) -> None:
    assert httpx.get(fake_server + path).is_success


def test_the_docs_need_no_network(fake_server: str) -> None:
    page = httpx.get(f"{fake_server}/docs").text
    assert "https://" not in page
    assert httpx.get(f"{fake_server}/static-offline-docs/swagger-ui-bundle.js").is_success


def test_it_is_not_ready_until_the_model_is_warm(settings: Settings) -> None:
    gate = threading.Event()

    def slow(*_: object) -> FakeEngine:
        gate.wait(10)
        return FakeEngine()

    with TestClient(create_app(settings, load=slow), base_url="http://localhost") as client:
        loading = client.get("/health/ready")
        assert (loading.status_code, loading.json()["status"]) == (503, "loading")
        assert client.get("/health/live").is_success
        gate.set()
        assert client.post("/transcribe", files={"file": wav(1)}).json()["text"] == "zero"
        assert client.get("/health/ready").json()["status"] == "ready"


def test_a_model_that_cannot_load_is_told_to_the_process(settings: Settings) -> None:
    failures: list[NautilusError] = []
    told = threading.Event()

    def broken(*_: object) -> FakeEngine:
        raise OSError("no such weights")

    def note(error: NautilusError) -> None:
        failures.append(error)
        told.set()

    with TestClient(create_app(settings, note, load=broken), base_url="http://localhost") as client:
        assert told.wait(5)
        assert client.get("/health/ready").status_code == 503
    assert isinstance(failures[0], ModelLoadError)
    assert "no such weights" in str(failures[0])


def test_bodies_are_bounded(settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 10_000})
    with TestClient(create_app(small, load=fake_engine), base_url="http://localhost") as client:
        declared = client.post("/transcribe", files={"file": wav(2)})
        streamed = client.post(
            "/transcribe",
            content=iter([b"x" * 6000, b"x" * 6000]),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
    for response in (declared, streamed):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "upload_too_large"


def test_every_answer_has_an_id_and_its_time(fake_server: str) -> None:
    response = httpx.get(f"{fake_server}/health/live")
    assert response.headers["x-request-id"].startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert httpx.get(fake_server, headers={"x-request-id": "my-1"}).headers["x-request-id"] == "my-1"
    assert httpx.get(fake_server, headers={"x-request-id": "a b"}).headers["x-request-id"].startswith("req_")


def test_other_paths_and_methods_are_refused_in_openai_s_shape(fake_server: str) -> None:
    missing = httpx.get(f"{fake_server}/v2/anything")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")
    wrong = httpx.get(f"{fake_server}/transcribe")
    assert wrong.status_code == 405
    assert "does not take GET" in wrong.json()["error"]["message"]


def test_a_deadline_gives_up(settings: Settings) -> None:
    class Slow(FakeEngine):
        def __init__(self) -> None:
            super().__init__()
            self.gate = threading.Event()

        def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            if len(batch[0]) == 16_000:
                self.gate.wait(2)
            return super().transcribe(batch, options)

    hurried = settings.model_copy(update={"request_timeout": 0.2})
    with TestClient(create_app(hurried, load=lambda *_: Slow()), base_url="http://localhost") as client:
        response = client.post("/transcribe", files={"file": wav(1)})
    assert response.status_code == 504
    assert response.headers["x-should-retry"] == "false"


def test_a_full_queue_refuses_and_says_when_to_retry(settings: Settings) -> None:
    gate = threading.Event()

    class Gated(FakeEngine):
        def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
            if len(batch[0]) == 16_000:
                gate.wait(10)
            return super().transcribe(batch, options)

    narrow = settings.model_copy(update={"batch": BatchLimits(workers=1, max_items=1, max_waiting=1)})
    with (
        TestClient(create_app(narrow, load=lambda *_: Gated()), base_url="http://localhost") as client,
        ThreadPoolExecutor(4) as threads,
    ):
        asked = [threads.submit(client.post, "/transcribe", files={"file": wav(1)}) for _ in range(4)]
        refused, _ = (one.result() for one in islice(as_completed(asked), 2))
        gate.set()
        answers = [one.result().status_code for one in asked]
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"
    assert sorted(answers) == [200, 200, 503, 503]
