"""What browsers are told: how to take answers, and which pages of others may ask."""

import re

import pytest
from fastapi.testclient import TestClient

from nautilus.errors import ConfigurationError
from nautilus.settings import Cors, Settings, load_settings
from nautilus.web.app import create_app
from nautilus.web.middleware import SECURITY_HEADERS
from tests.conftest import fake_engine
from tests.web.clips import wav

PAGE = "https://app.example"


def client(settings: Settings, *origins: str) -> TestClient:
    return TestClient(
        create_app(settings.model_copy(update={"cors": Cors(origins)}), load=fake_engine), base_url="http://localhost"
    )


@pytest.mark.parametrize("path", ["/health/live", "/docs", "/openapi.json", "/metrics", "/nothing"])
def test_every_answer_carries_what_keeps_browsers_safe(settings: Settings, path: str) -> None:
    with client(settings) as asking:
        headers = asking.get(path).headers
    assert [(name, headers.get(name.decode(), "").encode()) for name, _ in SECURITY_HEADERS] == list(SECURITY_HEADERS)


def test_a_refused_upload_carries_it_too(settings: Settings) -> None:
    with client(settings.model_copy(update={"max_upload_bytes": 10})) as asking:
        answer = asking.post("/transcribe", files={"file": wav(1)})
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (413, "nosniff")


def test_the_page_of_the_api_finds_its_scripts_and_styles(settings: Settings) -> None:
    with client(settings) as asking:
        page = asking.get("/docs").text
        parts = re.findall(r'(?:src|href)="(/[^"]+)"', page)
        assert len(parts) >= 2
        kinds = [asking.get(part).headers["content-type"].partition(";")[0] for part in parts]
    assert {"text/css", "text/javascript"} <= {kind.replace("application/java", "text/java") for kind in kinds}


def test_pages_of_others_may_not_ask_unless_told_so(settings: Settings) -> None:
    with client(settings) as asking:
        answer = asking.get("/v1/models", headers={"origin": PAGE})
        preflight = asking.options("/v1/models", headers={"origin": PAGE, "access-control-request-method": "GET"})
    assert "access-control-allow-origin" not in answer.headers
    assert preflight.status_code == 405


def test_a_page_that_may_ask_can_send_keys_and_read_ids_and_refusals(settings: Settings) -> None:
    with client(settings, PAGE) as asking:
        wish = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        preflight = asking.options("/transcribe", headers={"origin": PAGE} | wish)
        answer = asking.post("/transcribe", headers={"origin": PAGE})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_another_page_may_not(settings: Settings) -> None:
    with client(settings, PAGE) as asking:
        answer = asking.get("/v1/models", headers={"origin": "https://app.example.evil"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://app.example/page"])
def test_what_is_no_origin_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    monkeypatch.setenv("NAUTILUS_CORS__ORIGINS", f'["{origin}"]')
    with pytest.raises(ConfigurationError, match=r"NAUTILUS_CORS.*is no origin: write https://host"):
        load_settings()


def test_origins_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_CORS__ORIGINS", f'["{PAGE}"]')
    assert load_settings().cors == Cors((PAGE,))


def test_what_is_no_list_is_told_how_to_write_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_CORS__ORIGINS", PAGE)
    with pytest.raises(ConfigurationError, match=r"NAUTILUS_CORS__ORIGINS.*write it like \["):
        load_settings()
