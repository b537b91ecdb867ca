"""Limits over real HTTP: who has had enough is told so, and nobody else notices."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus

from nautilus.access.limits import Window
from nautilus.access.settings import AccessSettings, LimitSettings
from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.settings import StorageSettings
from nautilus.web.access import told
from tests.access.redis import running_redis
from tests.conftest import fake_engine, running
from tests.web.clips import wav
from tests.web.jobs import JOBS, done, until
from tests.web.test_access import ask, bearer, live, refusal

FREE = "a-key-without-limits"
LIMITS: dict[str, dict[str, float]] = {
    "few-requests-a-minute": {"requests_per_minute": 3},
    "few-requests-for-openai": {"requests_per_minute": 1},
    "little-audio-a-minute": {"audio_seconds_per_minute": 3},
    "little-audio-for-jobs": {"audio_seconds_per_minute": 3},
    "little-audio-for-streams": {"audio_seconds_per_day": 1},
    "one-request-at-once": {"concurrent_requests": 1},
    "one-stream-at-once": {"streams": 1},
    "one-realtime-at-once": {"streams": 1},
    "one-job-in-the-queue": {"queued_jobs": 1},
    "small-uploads-only": {"upload_bytes": 50_000},
    "a-flood-of-requests": {"requests_per_minute": 20},
}


def keys() -> SecretStr:
    listed: list[dict[str, Any]] = [{"key": FREE, "tenant": "free"}]
    listed += [{"key": key, "tenant": key, "limits": limits} for key, limits in LIMITS.items()]
    return SecretStr(json.dumps(listed))


@pytest.fixture(scope="module")
def limited(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with a key for each limit."""
    with_keys = settings.model_copy(
        update={
            "access": AccessSettings(keys=keys()),
            "jobs": JobLimits(poll_seconds=0.1),
            "storage": StorageSettings(data_dir=tmp_path_factory.mktemp("limited")),
        }
    )
    with running(with_keys, fake_engine) as url:
        until(lambda: httpx.get(url + JOBS, headers=bearer(FREE)).is_success)
        yield url


def refused(answer: httpx.Response) -> bool:
    """Tell whether an answer is a refusal for now, as it must look like."""
    if answer.status_code != 429:
        return False
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(answer.headers["retry-after"]) <= 86_401
    return True


def test_every_answer_tells_what_is_left(limited: str) -> None:
    headers = bearer("few-requests-a-minute")
    answers = [httpx.get(f"{limited}/v1/models", headers=headers) for _ in range(2)]
    answers += [httpx.get(f"{limited}/v1/nothing", headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"3"}
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"requests";q=3;w=60'}
    last = answers[-1]
    assert refused(last)
    seconds = last.headers["retry-after"]
    assert last.headers["x-ratelimit-reset-requests"] == f"{seconds}s"
    assert last.headers["RateLimit"] == f'"requests";r=0;t={seconds}'
    assert "RateLimit" not in httpx.get(f"{limited}/v1/models", headers=bearer(FREE)).headers
    assert refusal(limited, "few-requests-a-minute") == (429, "rate_limit_exceeded")


def test_openai_s_client_knows_a_limit(limited: str) -> None:
    with OpenAI(api_key="few-requests-for-openai", base_url=f"{limited}/v1", max_retries=0) as client:
        client.models.list()
        with pytest.raises(openai.RateLimitError):
            client.models.list()


def test_all_limits_share_the_headers() -> None:
    windows = (
        Window("requests", 50, 60, 12, 30, exceeded=False),
        Window("audio-day", 3600, 86400, 99, 4000, exceeded=False),
    )
    assert told(windows) == {
        "RateLimit-Policy": '"requests";q=50;w=60, "audio-day";q=3600;w=86400',
        "RateLimit": '"requests";r=12;t=30, "audio-day";r=99;t=4000',
        "x-ratelimit-limit-requests": "50",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-reset-requests": "30s",
    }


def test_audio_is_charged_by_its_length(limited: str) -> None:
    headers = bearer("little-audio-a-minute")
    answers = [ask(limited, headers) for _ in range(3)]  # of two seconds each: what begins in time may end
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=3", "r=1", "r=0"]
    assert refused(answers[-1])
    assert refused(ask(limited, headers, JOBS))
    assert httpx.get(limited + JOBS, headers=headers).is_success  # what brings no audio goes on


def test_audio_of_streamed_answers_and_of_jobs_is_charged(limited: str) -> None:
    headers = bearer("little-audio-for-jobs")
    with httpx.Client(base_url=limited, headers=headers) as client:
        assert client.post("/v1/audio/transcriptions", files={"file": wav(2)}, data={"stream": "true"}).is_success
        job = client.post(JOBS, files={"file": wav(2)}).json()["id"]
        assert done(client, job)["status"] == "completed"
        until(lambda: refused(ask(limited, headers)))


def test_audio_of_live_streams_is_charged(limited: str) -> None:
    key = "little-audio-for-streams"
    with live(limited, key) as connection:
        assert connection.response
        assert connection.response.headers["RateLimit-Policy"] == '"audio-day";q=1;w=86400'
        connection.send(wav(2)[44:])
        connection.send(json.dumps({"type": "end"}))
        assert json.loads(list(connection)[-1])["type"] == "end"
    assert refusal(limited, key) == refusal(limited, key, "realtime") == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(("path", "other"), [("stream", "realtime"), ("realtime", "stream")])
def test_only_so_many_streams_are_open_at_once(limited: str, path: str, other: str) -> None:
    key = f"one-{path}-at-once"
    with live(limited, key, path) as connection:
        connection.recv(timeout=20)
        assert refusal(limited, key, path) == refusal(limited, key, other) == (429, "rate_limit_exceeded")
        with live(limited, FREE):
            pass
    until(lambda: opens(limited, key, path))


def opens(url: str, key: str, path: str) -> bool:
    try:
        with live(url, key, path):
            return True
    except InvalidStatus:
        return False


def test_only_so_many_requests_run_at_once(limited: str) -> None:
    headers = bearer("one-request-at-once")

    def slow() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(3):
            assert refused(ask(limited, headers))
            assert httpx.get(f"{limited}/v1/models", headers=headers).is_success
        assert ask(limited, bearer(FREE)).is_success
        yield wav(2) + b"\r\n--x--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{limited}/v1/audio/transcriptions", headers=headers | kind, content=slow())
    assert answer.json()["text"] == "zero one"
    assert ask(limited, headers).is_success


def test_only_so_many_jobs_wait(limited: str) -> None:
    headers = bearer("one-job-in-the-queue")
    files = [("file", (f"{number}.wav", wav(1))) for number in range(20)]
    first = httpx.post(limited + JOBS, headers=headers, files=files)
    assert first.status_code == 202
    assert refused(httpx.post(limited + JOBS, headers=headers, files=files))
    with httpx.Client(base_url=limited, headers=headers) as client:
        done(client, first.json()["id"])
    assert httpx.post(limited + JOBS, headers=headers, files=files).status_code == 202


def test_uploads_are_only_so_large(limited: str) -> None:
    headers = bearer("small-uploads-only")
    assert httpx.post(f"{limited}/transcribe", headers=headers, files={"file": wav(1)}).is_success
    answer = httpx.post(f"{limited}/transcribe", headers=headers, files={"file": wav(2)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "upload_too_large")
    assert "50000 bytes" in answer.json()["error"]["message"]


def test_a_flood_of_one_tenant_is_refused_while_another_is_served(limited: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        flood = [threads.submit(ask, limited, bearer("a-flood-of-requests")) for _ in range(60)]
        served = [ask(limited, bearer(FREE)) for _ in range(10)]
        answers = [one.result() for one in flood]
    assert sum(answer.is_success for answer in answers) == 20
    assert sum(refused(answer) for answer in answers) == 40
    assert all(answer.json()["text"] == "zero one" for answer in served)


def test_a_server_that_asks_for_no_keys_limits_all_together(settings: Settings) -> None:
    limits = LimitSettings(requests_per_minute=2, streams=1)
    with running(settings.model_copy(update={"limits": limits}), fake_engine) as url:
        answers = [ask(url, bearer(f"sk-{number}")) for number in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_two_servers_count_in_one_redis(settings: Settings) -> None:
    with running_redis() as redis, ExitStack() as servers:
        limits = LimitSettings(requests_per_minute=3, redis_url=SecretStr(redis.url), redis_down="closed")
        together = settings.model_copy(update={"limits": limits})
        urls = [servers.enter_context(running(together, fake_engine)) for _ in range(2)]
        answers = [ask(urls[number % 2], {}) for number in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        redis.stop()
        answer = ask(urls[0], {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        assert answer.headers["retry-after"]
        assert httpx.get(f"{urls[0]}/health/ready").is_success


def test_a_redis_that_is_down_lets_everybody_in_where_that_was_chosen(settings: Settings) -> None:
    with running_redis() as redis:
        limits = LimitSettings(requests_per_minute=1, redis_url=SecretStr(redis.url), redis_down="open")
        with running(settings.model_copy(update={"limits": limits}), fake_engine) as url:
            assert [ask(url, {}).status_code for _ in range(2)] == [200, 429]
            redis.stop()
            assert [ask(url, {}).status_code for _ in range(3)] == [200, 200, 200]
