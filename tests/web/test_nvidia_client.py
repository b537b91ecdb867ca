"""What NVIDIA's realtime client sends (nvidia-riva-client 2.28, riva/client/realtime.py), message by message."""

import base64
import io
import json
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from websockets.sync.client import ClientConnection

from tests.engines.sounds import sample, silence
from tests.web.test_realtime import opened, say, until
from tests.web.test_stream import HEARD, pcm

COMPLETED = "conversation.item.input_audio_transcription.completed"


@contextmanager
def connected(server: str, **changes: Any) -> Iterator[ClientConnection]:
    """Do what the client does until it sends sound."""
    session = httpx.post(f"{server}/v1/realtime/transcription_sessions", json={}).raise_for_status().json()
    protocols = ["realtime", f"realtime-token.{session['client_secret']['value']}"]
    session["input_audio_format"] = "none"
    session["input_audio_transcription"] |= {"language": "en-US", "delay": "xhigh"}  # the delay is ours
    session["input_audio_params"] = {"sample_rate_hz": 16_000, "num_channels": 1}
    session["recognition_config"] = {"max_alternatives": 1, "enable_word_time_offsets": True}
    with opened(server, protocols=protocols) as connection:
        assert connection.subprotocol == "realtime"
        connection.recv(timeout=20)
        say(connection, "transcription_session.update", session=session | changes)
        answer = json.loads(connection.recv(timeout=20))
        assert answer["type"] == "transcription_session.updated"
        yield connection


def wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((1, 2, 16_000, 0, "NONE", ""))
        output.writeframes(samples)
    return file.getvalue()


def send(connection: ClientConnection, data: bytes, force_eou_at: int = -1) -> None:
    for number, start in enumerate(range(0, len(data), 3200)):
        extra = {"runtime_config": {"force_eou": "true"}} if number == force_eou_at else {}
        audio = base64.b64encode(data[start : start + 3200]).decode()
        say(connection, "input_audio_buffer.append", audio=audio, **extra)
        say(connection, "input_audio_buffer.commit")
    say(connection, "input_audio_buffer.done")


def completed(connection: ClientConnection) -> Iterator[dict[str, Any]]:
    for event in map(json.loads, connection):
        assert "error" not in event["type"], event
        if event["type"] == COMPLETED:
            yield event


def test_a_file_is_heard_as_utterances_and_its_end_has_all_words(server: str) -> None:
    with connected(server) as connection:
        send(connection, wav(pcm(np.concatenate([sample(), silence(2.0), sample()]))))
        *utterances, last = completed(connection)
        assert connection.close_code == 1000
    assert utterances[0]["transcript"] == HEARD
    assert len(utterances) == 2
    assert [event["is_last_result"] for event in (*utterances, last)] == [False, False, True]
    assert last["transcript"] == " ".join(event["transcript"] for event in utterances)
    words = last["words_info"]["words"]
    assert [word["word"] for word in words] == last["transcript"].split()
    assert 5000 < words[11]["start_time"] < words[11]["end_time"] < 8000
    assert utterances[1]["words_info"]["words"] == words[11:]


def test_an_utterance_ends_where_the_client_forces_it(server: str) -> None:
    with connected(server, input_audio_format="pcm16", endpointing_config={"stop_history": 5000}) as connection:
        send(connection, pcm(np.concatenate([sample(), silence(0.4), sample()])), force_eou_at=42)
        told = [event["transcript"] for event in completed(connection)]
    assert told[0] == HEARD
    assert told[1].endswith("the next song")
    assert told[2:] == [" ".join(told[:2])]


def test_a_client_that_sends_nothing_gets_its_end(server: str) -> None:
    with connected(server) as connection:
        say(connection, "input_audio_buffer.done")
        (last,) = completed(connection)
    assert (last["transcript"], last["is_last_result"]) == ("", True)


def test_what_is_no_wav_file_is_told(server: str) -> None:
    with connected(server) as connection:
        broken = base64.b64encode(b"RIFF\xff\xff\xff\xffWAVEdata" + bytes(40)).decode()
        say(connection, "input_audio_buffer.append", audio=broken)
        assert until(connection, "error")["error"]["code"] == "bad_audio"
