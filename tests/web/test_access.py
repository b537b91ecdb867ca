"""Who may ask a server that asks for keys: over real HTTP and WebSockets, with OpenAI's client as it is."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from nautilus.access.settings import AccessSettings
from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.settings import StorageSettings
from nautilus.web.access import NEEDS, WITH_AUDIO, needed, route_path
from nautilus.web.app import create_app
from tests.conftest import fake_engine, running
from tests.web.clips import wav
from tests.web.jobs import JOBS, done, submit, until

ADMIN = "the-operator-s-own-key"
_numbers = count(1)


@pytest.fixture(scope="module")
def guarded(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that asks for keys; the operator's is one of its settings."""
    key = {"key": ADMIN, "name": "operator", "tenant": "operator", "scopes": ["admin"]}
    with_keys = settings.model_copy(
        update={
            "access": AccessSettings(required=True, keys=SecretStr(json.dumps([key]))),
            "jobs": JobLimits(poll_seconds=0.1),
            "storage": StorageSettings(data_dir=tmp_path_factory.mktemp("guarded")),
        }
    )
    with running(with_keys, fake_engine) as url:
        until(lambda: httpx.get(f"{url}/v1/admin/keys", headers=bearer(ADMIN)).is_success)
        yield url


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def administer(url: str, method: str, path: str = "", **body: Any) -> dict[str, Any]:
    answer = httpx.request(method, f"{url}/v1/admin/keys{path}", headers=bearer(ADMIN), json=body or None)
    assert answer.is_success, answer.text
    return dict(answer.json())


def made(url: str, **wanted: Any) -> dict[str, Any]:
    return administer(url, "POST", name=f"key {next(_numbers)}", **wanted)


def ask(url: str, headers: dict[str, str], path: str = "/v1/audio/transcriptions") -> httpx.Response:
    return httpx.post(f"{url}{path}", headers=headers, files={"file": wav(2)})


def live(url: str, key: str | None = None, path: str = "stream", protocols: Sequence[str] = ()) -> ClientConnection:
    return connect(
        f"{url.replace('http', 'ws')}/v1/{path}",
        additional_headers=bearer(key) if key else {},
        subprotocols=[Subprotocol(name) for name in protocols] or None,
    )


def refusal(url: str, *args: Any, **kwargs: Any) -> tuple[int, str]:
    """Return how a live stream is refused before it is one."""
    with pytest.raises(InvalidStatus) as caught, live(url, *args, **kwargs):
        raise AssertionError
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body or b"")["error"]["code"]


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """Give the paths of all routes, also of those that FastAPI keeps in routers."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from paths_of(route.original_router.routes)
        else:
            yield route.path


def test_every_route_has_a_need_and_every_need_a_route(settings: Settings) -> None:
    paths = set(paths_of(create_app(settings).routes))
    assert {"/docs", "/v1/realtime", f"{JOBS}/{{job_id}}/cancel"} <= paths
    named = {path for path in paths if any(path == need or path.startswith(f"{need}/") for need in NEEDS)}
    assert named == paths, "name the route in web/access.py"
    assert all(any(path == need or path.startswith(f"{need}/") for path in paths) for need in NEEDS)
    assert paths >= WITH_AUDIO


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/v1/audio/transcriptions", "transcribe"),
        ("/v1/audio/transcriptions/jobs", "jobs"),
        ("/v1/audio/transcriptions/jobs/job_1/result", "jobs"),
        ("/v1/admin/keys/key_1/rotate", "admin"),
        ("/v1/administration", "any"),
        ("/health/ready", "public"),
        ("/healthy", "any"),
        ("/", "public"),
        ("/static/captions.js", "public"),
        ("", "any"),
        ("//docs", "any"),
    ],
)
def test_the_longest_beginning_of_a_path_decides(path: str, need: str) -> None:
    assert needed(path) == need


@pytest.mark.parametrize(
    ("prefix", "path"), [("", "/v1/stream"), ("/asr", "/asr/v1/stream"), ("/v", "/v1/stream"), ("/v1", "/v1/v1/stream")]
)
def test_a_path_is_looked_at_as_routes_do(prefix: str, path: str) -> None:
    assert needed(route_path({"path": path, "root_path": prefix})) == "stream"


@pytest.mark.parametrize("path", ["/health", "/v1/health/ready", "/docs", "/openapi.json", "/metrics"])
def test_what_is_public_asks_for_nothing(guarded: str, path: str) -> None:
    assert httpx.get(guarded + path).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer sk-test",
        f"Basic {ADMIN}",
        f"bearer {ADMIN} x",
        "Bearer ek_x.y",
        "Token é",
    ],
)
def test_without_a_valid_key_the_answer_is_401_in_openai_s_shape(guarded: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/v1/models", "/v1/admin/keys", "/nothing", f"/v1/models?access_token={ADMIN}&key={ADMIN}"):
        answer = httpx.get(guarded + path, headers=headers)  # type: ignore[arg-type]  # bytes are headers too
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["x-request-id"]


def test_a_key_opens_its_scopes_and_nothing_else(guarded: str) -> None:
    key = made(guarded, scopes=["transcribe"])["key"]
    for scheme in ("Bearer", "bearer", "Token"):
        assert ask(guarded, {"Authorization": f"{scheme} {key}"}).json()["text"] == "zero one"
    assert httpx.get(f"{guarded}/v1/models", headers=bearer(key)).is_success
    for path in (JOBS, "/v1/admin/keys"):
        answer = httpx.get(guarded + path, headers=bearer(key))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert ask(guarded, bearer(ADMIN)).status_code == 403
    assert refusal(guarded, key) == refusal(guarded, key, "realtime") == (403, "forbidden")


def test_a_live_stream_without_a_key_is_refused_before_the_upgrade(guarded: str) -> None:
    for path in ("stream", "realtime", f"realtime?access_token={ADMIN}"):
        assert refusal(guarded, path=path) == refusal(guarded, "sk-test", path) == (401, "invalid_api_key")


async def test_openai_s_client_works_with_a_key(guarded: str) -> None:
    key = made(guarded)["key"]
    base = f"{guarded}/v1"
    async with AsyncOpenAI(api_key=key, base_url=base, websocket_base_url=base.replace("http", "ws")) as client:
        heard = await client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(2)))
        assert heard.text == "zero one"
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            assert (await connection.recv()).type == "session.created"


def test_openai_s_client_knows_a_wrong_key(guarded: str) -> None:
    with OpenAI(api_key="sk-test", base_url=f"{guarded}/v1") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize(("path", "name"), [("realtime", "realtime"), ("stream", "nautilus")])
def test_a_client_secret_opens_live_streams_and_nothing_else(guarded: str, path: str, name: str) -> None:
    key = made(guarded, scopes=["stream"], tenant="acme")
    answer = httpx.post(f"{guarded}/v1/realtime/client_secrets", headers=bearer(key["key"]), json={})
    secret = answer.json()["value"]
    with live(guarded, path=path, protocols=[name, f"openai-insecure-api-key.{secret}"]) as connection:
        assert connection.subprotocol == name
    assert ask(guarded, bearer(secret)).status_code == 403
    more = httpx.post(f"{guarded}/v1/realtime/client_secrets", headers=bearer(secret), json={})
    assert more.status_code == 403
    administer(guarded, "DELETE", f"/{key['id']}")
    assert refusal(guarded, secret, path) == (401, "invalid_api_key")


def test_a_revoked_key_ends_at_once(guarded: str) -> None:
    key = made(guarded)
    assert ask(guarded, bearer(key["key"])).is_success
    assert administer(guarded, "DELETE", f"/{key['id']}")["status"] == "revoked"
    assert ask(guarded, bearer(key["key"])).status_code == 401


def test_a_key_expires(guarded: str) -> None:
    key = made(guarded, expires_in=1)
    until(lambda: httpx.get(f"{guarded}/v1/models", headers=bearer(key["key"])).status_code == 401, 5)


def test_a_rotated_key_works_for_its_grace(guarded: str) -> None:
    old = made(guarded, tenant="acme", scopes=["transcribe"])
    new = administer(guarded, "POST", f"/{old['id']}/rotate")
    assert (new["tenant"], new["scopes"], new["name"]) == ("acme", ["transcribe"], old["name"])
    assert ask(guarded, bearer(old["key"])).is_success
    last = administer(guarded, "POST", f"/{new['id']}/rotate", grace=0)
    assert [ask(guarded, bearer(key["key"])).status_code for key in (old, new, last)] == [200, 401, 200]


def test_a_tenant_sees_its_own_jobs_only(guarded: str) -> None:
    acme, other = (made(guarded, tenant=tenant)["key"] for tenant in ("acme", "globex"))
    with (
        httpx.Client(base_url=guarded, headers=bearer(acme)) as owner,
        httpx.Client(base_url=guarded, headers=bearer(other)) as stranger,
    ):
        job = submit(owner, 2.0)["id"]
        assert done(owner, job)["status"] == "completed"
        assert job in [one["id"] for one in owner.get(JOBS).json()["data"]]
        assert stranger.get(JOBS).json()["data"] == []
        for path in ("", "/result", "/files", "/events"):
            assert stranger.get(f"{JOBS}/{job}{path}").status_code == 404
        assert stranger.post(f"{JOBS}/{job}/cancel").status_code == 404
        assert stranger.delete(f"{JOBS}/{job}").status_code == 404
        assert owner.get(f"{JOBS}/{job}/result").json()["text"] == "zero one"


def test_a_tenant_resumes_its_own_streams_only(guarded: str) -> None:
    acme, other = (made(guarded, tenant=tenant)["key"] for tenant in ("acme", "globex"))
    with live(guarded, acme) as connection:
        session = json.loads(connection.recv(timeout=20))["session"]
        with live(guarded, other, f"stream?session={session}&after=0") as stranger:
            assert json.loads(stranger.recv(timeout=20))["error"]["code"] == "session_gone"
        connection.send(wav(1)[44:])
        connection.send(json.dumps({"type": "end"}))
        assert json.loads(list(connection)[-1])["type"] == "end"


def test_metrics_can_be_the_administrator_s(settings: Settings) -> None:
    keys = json.dumps([{"key": ADMIN, "scopes": ["admin"]}])
    access = AccessSettings(metrics="admin", keys=SecretStr(keys))
    with running(settings.model_copy(update={"access": access}), fake_engine) as url:
        assert httpx.get(f"{url}/metrics").status_code == 401
        assert httpx.get(f"{url}/metrics", headers=bearer(ADMIN)).status_code == 200


def test_a_server_on_the_loopback_asks_for_nothing_but_to_change_keys(fake_server: str) -> None:
    for headers in ({}, bearer("sk-whatever")):
        assert ask(fake_server, headers).is_success
        answer = httpx.get(f"{fake_server}/v1/admin/keys", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
