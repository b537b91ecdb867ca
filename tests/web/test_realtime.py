"""OpenAI's own client, unmodified, against the whole server; and what other clients send, byte by byte."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import soxr
from openai import AsyncOpenAI
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from nautilus.runtime.queue import BatchLimits
from nautilus.settings import Settings
from nautilus.types import Waveform
from tests.conftest import running
from tests.engines.sounds import sample, silence
from tests.web.test_stream import HEARD, pcm

MANUAL = {"type": "transcription", "audio": {"input": {"turn_detection": None, "transcription": {"delay": "xhigh"}}}}
BY_SERVER = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "whisper-1", "language": "en", "delay": "xhigh"},
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 350, "prefix_padding_ms": 600},
        }
    },
}


def at_24_khz(waveform: Waveform) -> bytes:
    return pcm(soxr.resample(waveform, 16_000, 24_000))


def pieces(data: bytes, size: int = 9600) -> Iterator[str]:
    for start in range(0, len(data), size):
        yield base64.b64encode(data[start : start + size]).decode()


async def test_openai_s_client_commits_and_gets_the_transcript(server: str) -> None:
    client = AsyncOpenAI(
        api_key="none", base_url=f"{server}/v1", websocket_base_url=f"{server}/v1".replace("http", "ws")
    )
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert (await connection.recv()).type == "session.created"
        await connection.session.update(session=MANUAL)  # type: ignore[arg-type]  # its types know no dicts like this
        assert (await connection.recv()).type == "session.updated"
        for audio in pieces(at_24_khz(sample())):
            await connection.input_audio_buffer.append(audio=audio)
        await connection.input_audio_buffer.commit()
        deltas, kinds = "", []
        async for event in connection:
            kinds.append(event.type)
            if event.type == "conversation.item.input_audio_transcription.delta":
                deltas += event.delta or ""
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.transcript == deltas == HEARD
                assert event.usage.type == "duration"
                break
    assert kinds.index("input_audio_buffer.committed") < kinds.index("conversation.item.added")


async def test_openai_s_client_lets_the_server_decide(server: str) -> None:
    client = AsyncOpenAI(
        api_key="none", base_url=f"{server}/v1", websocket_base_url=f"{server}/v1".replace("http", "ws")
    )
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=BY_SERVER)  # type: ignore[arg-type]  # its types know no dicts like this
        for audio in pieces(at_24_khz(np.concatenate([sample(), silence(2.0)]))):
            await connection.input_audio_buffer.append(audio=audio)
        seen: list[Any] = []
        async for event in connection:
            seen.append(event)
            if event.type == "conversation.item.input_audio_transcription.completed":
                break
    kinds = [event.type for event in seen if not event.type.endswith(".delta")]
    assert kinds == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
    ]
    items = {event.item_id for event in seen if hasattr(event, "item_id")}
    assert len(items) == 1
    assert seen[-1].transcript == HEARD
    stopped = next(event for event in seen if event.type == "input_audio_buffer.speech_stopped")
    assert 3500 < stopped.audio_end_ms < 6000


def opened(url: str, query: str = "?intent=transcription", protocols: Sequence[str] = ()) -> ClientConnection:
    address = f"{url.replace('http', 'ws')}/v1/realtime{query}"
    return connect(address, compression=None, subprotocols=[Subprotocol(name) for name in protocols] or None)


def say(connection: ClientConnection, kind: str, **fields: Any) -> None:
    connection.send(json.dumps({"type": kind} | fields))


def until(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(connection.recv(timeout=20))
        if event["type"] == kind:
            return event


def test_only_what_an_update_names_changes(server: str) -> None:
    with opened(server) as connection:
        before = until(connection, "session.created")["session"]
        say(connection, "session.update", session={"audio": {"input": {"transcription": {"language": "en"}}}})
        after = until(connection, "session.updated")["session"]
    assert before["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }
    assert after["audio"]["input"].pop("transcription")["language"] == "en"
    before["audio"]["input"].pop("transcription")
    assert after == before


def test_the_older_dialect_is_understood(server: str) -> None:
    with opened(server) as connection:
        session = {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
            "turn_detection": None,
        }
        say(connection, "transcription_session.update", session=session)
        shown = until(connection, "transcription_session.updated")["session"]["audio"]["input"]
    assert shown["format"] == {"type": "audio/pcmu"}
    assert shown["turn_detection"] is None


def test_several_items_follow_each_other_and_clear_forgets(server: str) -> None:
    with opened(server) as connection:
        say(connection, "session.update", session=MANUAL)
        previous, seconds = None, []
        for round_number in range(3):
            for audio in pieces(at_24_khz(sample())):
                say(connection, "input_audio_buffer.append", audio=audio)
            if round_number == 1:
                say(connection, "input_audio_buffer.clear")
                until(connection, "input_audio_buffer.cleared")
                continue
            say(connection, "input_audio_buffer.commit")
            committed = until(connection, "input_audio_buffer.committed")
            assert committed["previous_item_id"] == previous
            done = until(connection, "conversation.item.input_audio_transcription.completed")
            assert done["item_id"] == committed["item_id"]
            assert done["transcript"] == HEARD
            previous = committed["item_id"]
            seconds.append(done["usage"]["seconds"])
    assert seconds[0] == seconds[1], "a rest of what was cleared was heard"


def test_a_clear_before_any_sound_is_answered(server: str) -> None:
    with opened(server) as connection:
        say(connection, "session.update", session=MANUAL)
        say(connection, "input_audio_buffer.clear")
        until(connection, "input_audio_buffer.cleared")
        say(connection, "input_audio_buffer.append", audio=base64.b64encode(at_24_khz(sample())).decode())
        say(connection, "input_audio_buffer.commit")
        assert until(connection, "conversation.item.input_audio_transcription.completed")["transcript"] == HEARD


def test_logprobs_come_where_they_are_asked_for(server: str) -> None:
    with opened(server) as connection:
        say(connection, "session.update", session=MANUAL | {"include": ["item.input_audio_transcription.logprobs"]})
        say(connection, "input_audio_buffer.append", audio=base64.b64encode(at_24_khz(sample())).decode())
        say(connection, "input_audio_buffer.commit")
        done = until(connection, "conversation.item.input_audio_transcription.completed")
    assert "".join(entry["token"] for entry in done["logprobs"]).split() == HEARD.split()
    assert all(entry["logprob"] <= 0 for entry in done["logprobs"])


def test_an_empty_commit_is_told_in_openai_s_words(server: str) -> None:
    with opened(server) as connection:
        say(connection, "session.update", session=MANUAL)
        say(connection, "input_audio_buffer.commit", event_id="e1")
        error = until(connection, "error")["error"]
    assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "e1")
    assert "buffer only has 0.00ms of audio" in error["message"]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("nonsense", "JSON objects"),
        ('{"type": "response.create"}', "transcribes"),
        ('{"type": "input_audio_buffer.append", "audio": "%%%"}', "base64"),
        ('{"type": "session.update", "session": {"audio": {"input": {"format": "mp3"}}}}', "format must be one of"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"turn_detection": {"type": "psychic"}}}}}',
            "null",
        ),
        ('{"type": "session.update", "session": {"input_audio_transcription": {"model": "nobody"}}}', "no model named"),
    ],
)
def test_a_mistake_is_told_and_the_conversation_goes_on(server: str, message: str, reason: str) -> None:
    with opened(server) as connection:
        connection.send(message)
        assert reason in until(connection, "error")["error"]["message"]
        say(connection, "session.update", session=MANUAL)
        until(connection, "session.updated")


def test_a_browser_s_subprotocol_is_answered(server: str) -> None:
    with opened(server, protocols=["realtime", "openai-insecure-api-key.none"]) as connection:
        assert connection.subprotocol == "realtime"
    with opened(server) as connection:
        assert connection.subprotocol is None


@pytest.mark.parametrize(("query", "status"), [("?model=nobody", 404), ("?intent=conversation", 400)])
def test_what_cannot_be_is_refused_before_it_begins(server: str, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        opened(server, query)
    assert refusal.value.response.status_code == status


def test_a_full_server_says_when_to_come_back(settings: Settings) -> None:
    with running(settings.model_copy(update={"batch": BatchLimits(max_streams=1)})) as url:
        with opened(url) as first, opened(url) as second:
            for connection in (first, second):
                until(connection, "session.created")
            say(first, "input_audio_buffer.append", audio=next(pieces(at_24_khz(sample()))))
            until_open(url, 1)
            say(second, "input_audio_buffer.append", audio=next(pieces(at_24_khz(sample()))))
            event = until(second, "error")["error"]
            assert event["code"] == "overloaded"
            assert event["message"].endswith("retry in 5 s.")
            with pytest.raises(ConnectionClosed):
                second.recv(timeout=5)
            assert second.close_code == 1013
        until_open(url, 0)


def until_open(url: str, streams: int) -> None:
    """Wait until so many streams have a place."""
    deadline = time.monotonic() + 5
    while httpx.get(f"{url}/health/ready").json()["streams"]["open"] != streams:
        assert time.monotonic() < deadline


def test_a_commit_of_silence_is_answered_whoever_ends_utterances(server: str) -> None:
    for session in (MANUAL, BY_SERVER):
        with opened(server) as connection:
            say(connection, "session.update", session=session)
            say(connection, "input_audio_buffer.append", audio=base64.b64encode(at_24_khz(silence(1.0))).decode())
            say(connection, "input_audio_buffer.commit")
            assert until(connection, "conversation.item.input_audio_transcription.completed")["transcript"] == ""


def test_large_messages_are_heard_like_small_ones(server: str) -> None:
    with opened(server) as connection:
        say(connection, "session.update", session=MANUAL)
        sound = at_24_khz(np.concatenate([silence(8.0), sample()]))
        assert len(sound) > 256 * 1024
        say(connection, "input_audio_buffer.append", audio=base64.b64encode(sound).decode())
        say(connection, "input_audio_buffer.commit")
        whole = until(connection, "conversation.item.input_audio_transcription.completed")["transcript"]
        for audio in pieces(sound):
            say(connection, "input_audio_buffer.append", audio=audio)
        say(connection, "input_audio_buffer.commit")
        assert until(connection, "conversation.item.input_audio_transcription.completed")["transcript"] == whole
