"""Web pages of others, in a browser that reaches a server which asks for no keys."""

import json

import httpx
import pytest
from pydantic import SecretStr

from nautilus.access.settings import AccessSettings
from nautilus.settings import Cors, HttpLimits, Settings
from nautilus.web.origins import _hosts, _is_named, is_same
from tests.conftest import fake_engine, running
from tests.web.clips import wav

FOREIGN = "https://evil.example"
KEY = "the-operator-s-own-key"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def opens(url: str, path: str = "stream", **headers: str) -> int:
    """Return the status of an upgrade to a WebSocket."""
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with httpx.stream("GET", f"{url}/v1/{path}", headers=upgrade | headers) as answer:
        return answer.status_code


@pytest.mark.parametrize("path", ["stream", "realtime"])
def test_a_page_of_others_opens_no_live_stream(fake_server: str, path: str) -> None:
    assert opens(fake_server, path, Origin=FOREIGN) == 403
    assert opens(fake_server, path, Origin="null") == 403
    assert opens(fake_server, path, Origin=fake_server) == 101
    assert opens(fake_server, path) == 101


def test_a_page_of_others_sends_no_form(fake_server: str) -> None:
    ask, form = f"{fake_server}/v1/audio/transcriptions", {"file": wav(2)}
    assert code(httpx.post(ask, files=form, headers={"Origin": FOREIGN})) == (403, "origin_refused")
    assert code(httpx.post(ask, files=form, headers={"Sec-Fetch-Site": "cross-site"})) == (403, "origin_refused")
    for own in ({"Origin": fake_server}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert httpx.post(ask, files=form, headers=own).is_success


def test_what_changes_nothing_may_be_asked_as_nobody_else_can_read_it(fake_server: str) -> None:
    answer = httpx.get(f"{fake_server}/v1/models", headers={"Origin": FOREIGN})
    assert answer.is_success
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "0.0.0.0:80", "localhost.evil", "[::2]", "a b"]
)
def test_a_name_that_was_pointed_here_is_refused(fake_server: str, host: str) -> None:
    assert code(httpx.get(f"{fake_server}/v1/models", headers={"Host": host})) == (403, "host_refused")
    assert opens(fake_server, Host=host) == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "a.localhost"])
def test_the_loopback_s_own_names_are_known(fake_server: str, host: str) -> None:
    assert httpx.get(f"{fake_server}/v1/models", headers={"Host": host}).is_success


def test_pages_that_the_settings_name_may_ask(settings: Settings) -> None:
    allowed = settings.model_copy(update={"cors": Cors(origins=("https://app.example",))})
    with running(allowed, fake_engine) as url:
        assert opens(url, Origin="https://app.example") == 101
        assert opens(url, Origin=FOREIGN) == 403
        ask = f"{url}/v1/audio/transcriptions"
        assert httpx.post(ask, files={"file": wav(2)}, headers={"Origin": "https://app.example"}).is_success


def test_where_keys_are_asked_for_the_key_decides(settings: Settings) -> None:
    keys = SecretStr(json.dumps([{"key": KEY, "name": "page"}]))
    with running(settings.model_copy(update={"access": AccessSettings(keys=keys)}), fake_engine) as url:
        assert opens(url, Origin=FOREIGN, Authorization=f"Bearer {KEY}", Host="asr.example") == 101


def test_which_names_count() -> None:
    loopback, everywhere = Settings(), Settings(host="0.0.0.0")  # noqa: S104 - where it would listen
    assert _hosts(loopback, required=False) == frozenset()
    assert _hosts(loopback, required=True) is None
    assert _hosts(everywhere, required=False) is None
    assert _hosts(loopback.model_copy(update={"access": AccessSettings(open=True)}), required=False) is None
    named = everywhere.model_copy(update={"http": HttpLimits(hosts=("Asr.example",))})
    assert _is_named("asr.EXAMPLE:443", _hosts(named, required=True) or frozenset())
    assert _hosts(loopback.model_copy(update={"http": HttpLimits(hosts=("*",))}), required=False) is None


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://asr.example", "asr.example", True),  # TLS may be a proxy's
        ("https://asr.example", "asr.example:443", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("null", "null", False),
        ("http://", "", False),
        ("file://", "", False),
        ("https://asr.example.evil", "asr.example", False),
    ],
)
def test_what_is_the_same_origin(origin: str, host: str, same: bool) -> None:
    assert is_same(origin, host) is same
