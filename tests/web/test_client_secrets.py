"""Client secrets: minted with OpenAI's own client, and the only `ek_` keys that open a live stream."""

import base64
import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from nautilus.settings import Settings
from nautilus.stream.session import StreamLimits
from tests.conftest import running
from tests.engines.sounds import sample
from tests.web.test_realtime import MANUAL, at_24_khz, opened, say, until
from tests.web.test_stream import HEARD


async def test_openai_s_client_mints_a_secret_and_another_connects_with_it(server: str) -> None:
    async with AsyncOpenAI(api_key="none", base_url=f"{server}/v1") as owner:
        made = await owner.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session=MANUAL,  # type: ignore[arg-type]  # its types know no dicts like this
        )
    assert made.value.startswith("ek_")
    assert made.session.type == "transcription"
    assert made.session.audio is not None
    browser = AsyncOpenAI(
        api_key=made.value, base_url=f"{server}/v1", websocket_base_url=f"{server}/v1".replace("http", "ws")
    )
    async with browser.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.input_audio_buffer.append(audio=base64.b64encode(at_24_khz(sample())).decode())
        await connection.input_audio_buffer.commit()  # the secret's session ends no utterance by itself
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.transcript == HEARD
                break


def minted(server: str, path: str = "client_secrets", body: Any = None) -> httpx.Response:
    return httpx.post(f"{server}/v1/realtime/{path}", json=body or {})


@pytest.mark.parametrize("prefix", ["openai-insecure-api-key.", "realtime-token."])
def test_a_browser_sends_its_secret_as_a_subprotocol(server: str, prefix: str) -> None:
    settings = {"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}
    secret = minted(server, body={"session": settings}).json()["value"]
    for _ in range(2):  # one secret opens many sessions
        with opened(server, protocols=["realtime", prefix + secret]) as connection:
            assert connection.subprotocol == "realtime"
            session = until(connection, "session.created")["session"]
            assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
            say(connection, "session.update", session={"audio": {"input": {"format": {"type": "audio/pcma"}}}})
            changed = until(connection, "session.updated")["session"]
            assert changed["audio"]["input"]["format"] == {"type": "audio/pcma"}


def test_the_older_api_answers_with_a_flat_session(server: str) -> None:
    asked = {"input_audio_format": "g711_ulaw", "turn_detection": None, "input_audio_transcription": {"language": "de"}}
    session = minted(server, "transcription_sessions", asked).json()
    assert session["input_audio_format"] == "g711_ulaw"
    assert session["turn_detection"] is None
    assert session["input_audio_transcription"]["language"] == "de"
    secret = session["client_secret"]
    assert secret["expires_at"] > 1_764_000_000
    with opened(server, protocols=["realtime", f"realtime-token.{secret['value']}"]) as connection:
        shown = until(connection, "session.created")["session"]["audio"]["input"]
    assert (shown["format"], shown["turn_detection"]) == ({"type": "audio/pcmu"}, None)


@pytest.mark.parametrize("secret", ["ek_", "ek_nonsense.x", "ek_W10.x"])
def test_an_unknown_secret_is_refused_before_the_upgrade(server: str, secret: str) -> None:
    address = f"{server.replace('http', 'ws')}/v1/realtime?intent=transcription"
    for arguments in (
        {"additional_headers": {"Authorization": f"Bearer {secret}"}},
        {"subprotocols": [Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{secret}")]},
    ):
        with pytest.raises(InvalidStatus) as refusal:
            connect(address, compression=None, **arguments)
        assert refusal.value.response.status_code == 401
        assert refusal.value.response.headers["WWW-Authenticate"] == "Bearer"
        error = json.loads(refusal.value.response.body or b"")["error"]
        assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("client_secrets", {"expires_after": {"seconds": 5}}, "expires_after.seconds"),
        ("client_secrets", {"expires_after": {"seconds": True}}, "expires_after.seconds"),
        ("client_secrets", {"expires_after": 60}, "expires_after.seconds"),
        ("client_secrets", {"session": "x"}, "session"),
        ("client_secrets", {"session": {"type": "realtime"}}, "session.type"),
        ("client_secrets", {"session": {"note": "x" * 3000}}, "session"),
        ("client_secrets", {"session": {"audio": {"input": {"format": "mp3"}}}}, "session.audio.input.format"),
        ("transcription_sessions", {"input_audio_format": "mp3"}, "session.audio.input.format"),
        ("client_secrets", ["x"], None),
    ],
)
def test_a_mistake_in_a_request_is_named(server: str, path: str, body: Any, param: str | None) -> None:
    answer = minted(server, path, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_secret_for_a_model_that_is_not_there_is_not_made(server: str) -> None:
    session = {"audio": {"input": {"transcription": {"model": "nobody"}}}}
    assert minted(server, body={"session": session}).status_code == 404


def test_a_session_ends_at_its_longest_time_with_its_last_words(settings: Settings) -> None:
    short = settings.model_copy(update={"stream": StreamLimits(longest_stream=1.0)})
    with running(short) as url, opened(url) as connection:
        assert until(connection, "session.created")["session"]["expires_at"] > 1_764_000_000
        say(connection, "input_audio_buffer.append", audio=base64.b64encode(at_24_khz(sample())).decode())
        done = until(connection, "conversation.item.input_audio_transcription.completed")
        assert done["transcript"].endswith("the next song")
        assert until(connection, "error")["error"]["code"] == "session_expired"
