import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.web.clips import wav

PATH = "/v1/audio/transcriptions"


@pytest.fixture
async def client(fake_server: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fake_server, timeout=30) as made:
        yield made


async def ask(client: httpx.AsyncClient, audio: bytes, path: str = PATH, **fields: str) -> httpx.Response:
    return await client.post(path, files={"file": ("a", audio)}, data=fields)


def error(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()["error"]
    assert list(body) == ["message", "type", "param", "code"]
    return body


async def test_our_own_document_has_facts_and_timings(client: httpx.AsyncClient) -> None:
    document = (await ask(client, wav(2, rate=44_100, channels=2), "/transcribe")).json()
    assert document["text"] == "zero one"
    assert document["words"][0] == {"word": "zero", "start": 0.25, "end": 0.75, "confidence": 1.0}
    facts = document["audio"]
    assert (facts["duration"], facts["sample_rate"], facts["channels"], facts["codec"]) == (2.0, 44100, 2, "pcm_s16le")
    assert 0 < document["timings"]["decode"] < document["timings"]["total"]


async def test_a_long_recording_is_heard_in_windows(client: httpx.AsyncClient) -> None:
    document = (await ask(client, wav(10), "/transcribe")).json()
    assert len(document["words"]) == 10


async def test_requests_may_be_sent_without_length_and_file_first(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="blob"\r\n\r\n'
        yield wav(1)
        yield b'\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'

    response = await client.post(PATH, content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert response.json()["text"] == "zero"


async def test_a_channel_can_be_chosen(client: httpx.AsyncClient) -> None:
    assert (await ask(client, wav(1, channels=2), channel="1")).json()["text"] == "zero"
    refused = await ask(client, wav(1, channels=2), channel="2")
    assert (refused.status_code, error(refused)["param"]) == (400, "channel")


@pytest.mark.parametrize("level", ["none", "low", "medium", "high", "auto"])
async def test_every_level_of_cleaning_answers(client: httpx.AsyncClient, level: str) -> None:
    assert (await ask(client, wav(2), preprocess=level)).json()["text"] == "zero one"


@pytest.mark.parametrize(
    ("audio", "code", "says"),
    [
        (b"", "bad_audio", "empty"),
        (b"<html>not found</html>", "bad_audio", "decoded"),
        (wav(0.05), "audio_too_short", "at least 0.1 s"),
    ],
)
async def test_bad_audio_gets_a_clear_answer(client: httpx.AsyncClient, audio: bytes, code: str, says: str) -> None:
    response = await ask(client, audio)
    assert response.status_code == 400
    assert error(response)["code"] == code
    assert says in error(response)["message"]


@pytest.mark.parametrize(
    ("field", "value"), [("response_format", "docx"), ("language", "klingon"), ("language", "de"), ("stream", "maybe")]
)
async def test_bad_fields_are_named(client: httpx.AsyncClient, field: str, value: str) -> None:
    response = await ask(client, wav(1), **{field: value})
    assert (response.status_code, error(response)["param"]) == (400, field)


async def test_a_second_file_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.post(PATH, files=[("file", wav(1)), ("file", wav(1))])
    assert (refused.status_code, error(refused)["message"][:13]) == (400, "Send one file")


async def test_a_form_without_a_file_is_told_so(client: httpx.AsyncClient) -> None:
    for response in (
        await client.post(PATH, data={"model": "whisper-1"}),
        await client.post(PATH, files={"audio": b"x"}),
        await client.post(PATH, json={"model": "whisper-1"}),
    ):
        assert (response.status_code, error(response)["param"]) == (400, "file")


async def test_a_broken_form_is_told_so(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, content=b"--y\r\n", headers={"content-type": "multipart/form-data"})
    assert response.status_code == 400
    assert error(response)["type"] == "invalid_request_error"


async def test_what_has_no_effect_is_told_in_body_and_header(client: httpx.AsyncClient) -> None:
    response = await ask(client, wav(1), temperature="0.5", response_format="json")
    assert "temperature has no effect" in response.json()["warnings"][0]
    assert "temperature has no effect" in response.headers["x-nautilus-warning"]


async def test_what_a_prompt_is_taken_for_is_told(client: httpx.AsyncClient) -> None:
    response = await ask(client, wav(1), prompt="Ada Lovelace, Babbage", response_format="json")
    assert "expected as keywords: Ada Lovelace, Babbage" in response.json()["warnings"][0]


async def test_a_stream_is_server_sent_events(client: httpx.AsyncClient) -> None:
    response = await ask(client, wav(1), stream="true")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert [json.loads(event)["type"] for event in events[:-1]] == ["transcript.text.delta", "transcript.text.done"]
    assert events[-1] == "[DONE]"


async def test_good_and_broken_and_aborted_uploads_do_not_disturb_each_other(client: httpx.AsyncClient) -> None:
    async def good(seconds: int) -> bool:
        response = await ask(client, wav(seconds))
        assert response.is_success, response.text
        return len(response.json()["text"].split()) == seconds

    async def broken() -> bool:
        return (await ask(client, b"RIFF" + bytes(1000))).status_code == 400

    async def aborted() -> bool:
        try:
            async with asyncio.timeout(0.02):
                await ask(client, wav(60))
        except TimeoutError:
            return True
        return True

    work = [good(1 + n % 5) for n in range(24)] + [broken() for _ in range(20)] + [aborted() for _ in range(20)]
    assert all(await asyncio.gather(*work))
    assert (await client.get("/health/ready")).is_success
