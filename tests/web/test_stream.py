"""Live speech through the whole server, with a WebSocket client that is not ours."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from nautilus.errors import UnreadError
from nautilus.settings import Settings
from nautilus.stream.session import StreamLimits
from nautilus.types import Waveform
from nautilus.web.stream import send
from tests.audio.media import RECORDERS, record
from tests.conftest import running
from tests.engines.sounds import sample, silence
from tests.web.clips import SPEECH

HEARD = "set a timer for fifteen minutes and play the next song"


def pcm(waveform: Waveform) -> bytes:
    return (np.clip(waveform, -1, 1) * 32_767).astype("<i2").tobytes()


def parts(data: bytes, seed: int, longest: int) -> Iterator[bytes]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    while data:
        size = chance.randint(1, longest)
        yield data[:size]
        data = data[size:]


def opened(url: str, query: str = "delay=xhigh") -> ClientConnection:
    return connect(f"{url.replace('http', 'ws')}/v1/stream?{query}", compression=None)


def converse(url: str, pieces: Sequence[bytes], query: str = "delay=xhigh") -> list[dict[str, Any]]:
    """Send everything, say that it is the end, and return all events."""
    with opened(url, query) as connection:
        for piece in pieces:
            connection.send(piece)
        connection.send(json.dumps({"type": "end"}))
        return [json.loads(message) for message in connection]


def finals(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["type"] == "final"]


def test_speech_becomes_partials_and_a_final(server: str) -> None:
    sound = pcm(np.concatenate([sample(), silence(1.5)]))
    events = converse(server, [sound[start : start + 3200] for start in range(0, len(sound), 3200)])
    kinds = [event["type"] for event in events]
    assert kinds[0] == "ready"
    assert kinds[1] == "speech_started"
    assert "partial" in kinds
    assert kinds[-2:] == ["final", "end"]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert finals(events) == [HEARD]


def test_the_lag_is_how_much_came_beyond_what_was_heard(server: str) -> None:
    sound = pcm(np.concatenate([sample(), silence(1.5), sample()[:8000]]))
    for pieces in ([sound], list(parts(sound, 0, 9000))):
        told = [event for event in converse(server, pieces) if event["type"] in ("partial", "final")]
        for event in told:
            assert 0 <= event["lag"] <= max(0, event["received"] / 32 - 1000 * event["until"]) + 1
        assert (told[-1]["received"], told[-1]["lag"]) == (len(sound), 0)
    assert converse(server, [sound])[2]["lag"] > 4000  # all was there when the first words were told


def test_a_live_transcript_is_that_of_the_file(server: str) -> None:
    document = httpx.post(f"{server}/transcribe", files={"file": SPEECH.read_bytes()}).json()
    (final,) = [event for event in converse(server, [pcm(sample())]) if event["type"] == "final"]
    assert final["text"] == document["text"]
    for ours, theirs in zip(final["words"], document["words"], strict=True):
        assert ours["start"] == pytest.approx(theirs["start"], abs=0.01)


@pytest.mark.parametrize(("seed", "longest"), [(0, 5), (1, 1001), (2, 33_333), (3, 200_000)])
def test_the_size_of_messages_changes_nothing(server: str, seed: int, longest: int) -> None:
    sound = pcm(sample())
    pieces = list(parts(sound, seed, longest)) if longest > 5 else [*parts(sound[:3000], seed, longest), sound[3000:]]
    assert finals(converse(server, pieces)) == [HEARD]


def test_pauses_make_utterances_whose_times_are_the_stream_s(server: str) -> None:
    sound = pcm(np.concatenate([sample(), silence(2.0)] * 4))
    events = converse(server, [sound])
    said = [event for event in events if event["type"] == "final"]
    assert finals(converse(server, list(parts(sound, 0, 50_000)))) == [event["text"] for event in said]
    assert [event["utterance"] for event in said] == [0, 1, 2, 3]
    assert said[0]["text"] == HEARD
    starts = [event["words"][0]["start"] for event in said]
    distance = (len(sample()) + 32_000) / 16_000
    assert [after - before for before, after in pairwise(starts)] == pytest.approx([distance] * 3, abs=0.09)


def test_a_commit_ends_an_utterance_at_once(server: str) -> None:
    with opened(server) as connection:
        connection.send(pcm(sample()))
        connection.send(json.dumps({"type": "commit"}))
        heard: list[dict[str, Any]] = []
        while not finals(heard):
            heard.append(json.loads(connection.recv(timeout=10)))
        connection.send(pcm(sample()))
        connection.send(json.dumps({"type": "end"}))
        heard += [json.loads(message) for message in connection]
    assert finals(heard) == [HEARD, HEARD]
    first, second = (event["words"][0]["start"] for event in heard if event["type"] == "final")
    assert second - first == pytest.approx(len(sample()) / 16_000, abs=0.02)


def test_telephones_are_heard(server: str) -> None:
    narrow = sample()[::2]
    magnitude = np.log1p(255 * np.abs(narrow)) / np.log1p(255)
    code = np.minimum(127, (magnitude * 128).astype(int))
    mulaw = (0xFF ^ (code | np.where(narrow < 0, 0x80, 0))).astype(np.uint8).tobytes()
    (text,) = finals(converse(server, [mulaw], "encoding=mulaw&rate=8000&delay=xhigh"))
    assert "set a timer for" in text


@pytest.mark.parametrize("kind", ["webm", "ogg", "mp4"])
def test_a_browser_s_recorder_is_heard_however_its_bytes_are_cut(server: str, kind: str) -> None:
    data = record(sample(), RECORDERS[kind])
    whole = converse(server, [data], f"encoding={kind}&delay=xhigh")
    assert finals(whole)[0][:38] == HEARD[:38]
    assert whole[-1]["received"] == len(data)
    for seed, longest in ((1, 900), (2, 9000)):
        query = f"encoding={'auto' if seed == 1 else kind}&delay=xhigh"
        assert finals(converse(server, list(parts(data, seed, longest)), query)) == finals(whole)


def test_a_commit_ends_an_utterance_of_a_recorder(server: str) -> None:
    data = record(np.concatenate([sample(), silence(0.5), sample()]), RECORDERS["webm"])
    half = round(len(data) * (len(sample()) + 4000) / (2 * len(sample()) + 8000))
    with opened(server, "encoding=webm&delay=xhigh") as connection:
        for message in (data[:half], json.dumps({"type": "commit"}), data[half:], json.dumps({"type": "end"})):
            connection.send(message)
        first, second = finals([json.loads(message) for message in connection])
    assert first == HEARD
    assert second.startswith("set a timer for fifteen")
    assert second.endswith("the next song")


def test_a_broken_container_ends_its_stream_with_a_reason_and_no_other(server: str) -> None:
    data = record(sample(), RECORDERS["webm"])
    with opened(server, "encoding=webm&delay=xhigh") as good:
        good.send(data[:20_000])
        with opened(server, "encoding=webm") as broken:
            broken.recv(timeout=10)
            broken.send(b"RIFF" + bytes(5000))
            event = json.loads(broken.recv(timeout=10))
            assert (event["type"], event["error"]["code"]) == ("error", "bad_audio")
            with pytest.raises(ConnectionClosed):
                broken.recv(timeout=5)
            assert (broken.close_code, broken.close_reason) == (1008, "bad_audio")
        good.send(data[20_000:])
        good.send(json.dumps({"type": "end"}))
        assert finals([json.loads(message) for message in good]) == [HEARD]


def test_many_streams_do_not_disturb_each_other(server: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sound = pcm(sample())
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(converse, server, list(parts(sound, seed, 9000))) for seed in range(12)]
        assert [finals(one.result()) for one in asked] == [[HEARD]] * 12


def test_a_client_that_hangs_up_leaves_its_place(server: str) -> None:
    for _ in range(70):  # more than there are places
        with opened(server) as connection:
            connection.send(pcm(sample()[:4000]))
    assert finals(converse(server, [pcm(sample())])) == [HEARD]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("delay=soon", 400, "delay must be one of"),
        ("rate=4000", 400, "rate must be from 8000 to 48000"),
        ("encoding=opus", 400, "encoding must be one of"),
        ("encoding=webm&rate=48000", 400, "rate is for raw samples"),
        ("after=3", 400, "after needs the session"),
        ("speed=2", 400, "Unknown parameters: speed"),
        ("model=nobody", 404, "There is no model named"),
    ],
)
def test_what_cannot_be_is_refused_before_it_begins(server: str, query: str, status: int, message: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        opened(server, query)
    assert refusal.value.response.status_code == status
    assert message in json.loads(refusal.value.response.body or b"")["error"]["message"]


def test_nonsense_ends_the_conversation_with_a_reason(server: str) -> None:
    with opened(server) as connection:
        connection.recv()
        connection.send("hello?")
        event = json.loads(connection.recv(timeout=5))
        assert event["type"] == "error"
        assert "Text messages are" in event["error"]["message"]
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=5)
        assert connection.close_code == 1008


def test_a_client_that_sends_nothing_is_sent_away(settings: Settings) -> None:
    hurried = settings.model_copy(update={"stream": StreamLimits(idle=0.3)})
    with running(hurried) as url:
        for path in ("stream", "realtime"):
            with connect(f"{url.replace('http', 'ws')}/v1/{path}", compression=None) as connection:
                connection.recv()
                event = json.loads(connection.recv(timeout=5))
                assert event["error"]["code"] == "idle"
                assert "connect again" in event["error"]["message"]
                with pytest.raises(ConnectionClosed):
                    connection.recv(timeout=5)


class Deaf(WebSocket):
    """A connection whose other side takes nothing: all buffers between are full."""

    def __init__(self) -> None:
        """Connect with nobody."""

    async def send_text(self, data: str) -> None:
        del data
        await asyncio.Event().wait()


async def test_a_client_that_reads_nothing_is_waited_for_and_then_sent_away() -> None:
    with pytest.raises(UnreadError, match=r"read events while you send"):
        await send(Deaf(), "{}", patience=0.01)
