"""The straight way to uploads: nothing of what FastAPI's own way does is missing."""

import httpx
import pytest
from fastapi.routing import APIRoute

from nautilus.settings import Settings
from nautilus.web import transcriptions
from nautilus.web.app import create_app
from tests.web.clips import wav

PATHS = [route.path for route in transcriptions.router.routes if isinstance(route, APIRoute)]


@pytest.mark.parametrize("path", PATHS)
def test_uploads_are_documented(fake_server: str, path: str) -> None:
    described = httpx.get(f"{fake_server}/openapi.json").json()["paths"][path]["post"]
    assert "multipart/form-data" in described["requestBody"]["content"]


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_told_which_one_it_takes(fake_server: str, path: str) -> None:
    refused = httpx.get(f"{fake_server}{path}")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_slash_too_many_leads_there_as_well(fake_server: str) -> None:
    answer = httpx.post(f"{fake_server}/transcribe/", files={"file": wav(2)}, follow_redirects=True)
    assert answer.json()["text"] == "zero one"


def test_requests_are_counted_by_their_route(fake_server: str) -> None:
    httpx.post(f"{fake_server}/transcribe", files={"file": wav(1)})
    assert 'route="/transcribe"' in httpx.get(f"{fake_server}/metrics").text


@pytest.mark.parametrize("path", PATHS)
async def test_before_there_is_a_core_it_is_not_ready(settings: Settings, path: str) -> None:
    app = create_app(settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        refused = await client.post(path, files={"file": wav(1)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
