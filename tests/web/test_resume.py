"""Live speech over connections that break: every word comes once."""

import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from nautilus.settings import Settings
from nautilus.stream.session import StreamLimits
from tests.audio.media import RECORDERS, record
from tests.conftest import running
from tests.engines.sounds import sample, silence, speech_clips
from tests.web.test_stream import HEARD, converse, finals, opened, pcm

PIECE = 3200
"""Bytes: a tenth of a second."""


class Client:
    """Sends a recording over connections that it breaks, and collects what it is told."""

    def __init__(self, url: str, sound: bytes, query: str = "delay=xhigh") -> None:
        self._url = url
        self._sound = sound
        self._query = query
        self.events: list[dict[str, Any]] = []
        self.cuts = 0

    def last(self) -> int:
        return self.events[-1]["seq"] if self.events else -1

    @contextmanager
    def connected(self) -> Iterator[tuple[ClientConnection, int]]:
        """Connect, again if there was a connection before; the byte from which to send."""
        again = f"session={self.events[0]['session']}&after={self.last()}" if self.events else self._query
        with opened(self._url, again) as connection:
            ready = json.loads(connection.recv(timeout=20))
            assert ready["type"] == "ready", ready
            assert ready["resumed"] == bool(self.events)
            assert ready["seq"] == max(0, self.last())
            if not self.events:
                self.events.append(ready)
            yield connection, ready["received"]

    def send(self, least: int, chance: random.Random) -> int:
        """Send up to a random place and break the connection there; the byte at which it broke."""
        with self.connected() as (connection, start):
            stop = min(len(self._sound), start + chance.randint(0, least))
            for at in range(start, stop, PIECE):
                connection.send(self._sound[at : min(stop, at + PIECE)])
                self._listen(connection, chance.choice([0, 0, 0.005]))
            break_off(connection, chance.choice([0, 1, 7, 500]))
            self.cuts += 1
            return stop

    def finish(self) -> list[dict[str, Any]]:
        """Send the rest and the end; all events."""
        with self.connected() as (connection, start):
            for at in range(start, len(self._sound), PIECE):
                connection.send(self._sound[at : at + PIECE])
            connection.send(json.dumps({"type": "end"}))
            self.events += [json.loads(message) for message in connection]
        return self.events

    def _listen(self, connection: ClientConnection, seconds: float) -> None:
        try:
            self.events.append(json.loads(connection.recv(timeout=seconds)))
        except TimeoutError:
            return


def break_off(connection: ClientConnection, part: int) -> None:
    """Send `part` bytes of a message of a second, and reset the connection without a goodbye."""
    with connection.protocol_mutex:
        connection.protocol.send_binary(bytes(32_000))
        frame = b"".join(connection.protocol.data_to_send())
        connection.socket.sendall(frame[:part])
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.shutdown(socket.SHUT_RD)
        connection.socket.close()


def assert_whole(events: list[dict[str, Any]]) -> None:
    assert [event["seq"] for event in events] == list(range(len(events)))
    said = [event["utterance"] for event in events if event["type"] == "final"]
    assert said == list(range(len(said)))
    begun = [event["utterance"] for event in events if event["type"] == "speech_started"]
    assert begun == said
    assert events[-1] | {"received": 0} == {"type": "end", "reason": "client", "seq": len(events) - 1, "received": 0}


@pytest.mark.parametrize("seed", range(4))
def test_connections_cut_at_random_lose_and_double_nothing(server: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    sound = pcm(np.concatenate([sample(), silence(1.2)] * 3))
    client = Client(server, sound)
    while client.send(40_000, chance) < len(sound):
        pass
    events = client.finish()
    assert client.cuts > 10
    assert_whole(events)
    assert said(events) == said(converse(server, [sound]))
    assert finals(events)[0] == HEARD


def test_many_broken_connections_at_once_do_not_mix_their_streams(server: str) -> None:
    spoken = [pcm(sample()), pcm(np.concatenate([sample()[20_000:], silence(1.2), sample()]))]
    expected = [said(converse(server, [sound])) for sound in spoken]

    def speak(number: int) -> bool:
        chance = random.Random(number)  # noqa: S311 - no secret
        client = Client(server, spoken[number % 2])
        while client.send(40_000, chance) < len(spoken[number % 2]):
            pass
        return said(client.finish()) == expected[number % 2]

    with ThreadPoolExecutor(10) as threads:
        assert list(threads.map(speak, range(10))) == [True] * 10


@pytest.mark.parametrize("seed", range(2))
def test_a_container_goes_on_from_the_very_byte(server: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    sound = record(np.concatenate([sample(), silence(1.2)] * 3), RECORDERS["webm"])
    client = Client(server, sound, "encoding=webm&delay=xhigh")
    while client.send(20_000, chance) < len(sound):
        pass
    events = client.finish()
    assert client.cuts > 5
    assert_whole(events)
    assert said(events) == said(converse(server, [sound], "encoding=webm&delay=xhigh"))


@pytest.mark.speech
@pytest.mark.parametrize("seed", range(2))
def test_real_speech_over_bad_connections_has_the_words_of_an_uncut_stream(
    server: str, speech: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    clips = speech_clips(speech, 6)
    sound = pcm(np.concatenate([part for clip in clips for part in (clip, silence(1.0))]))
    client = Client(server, sound)
    while client.send(30_000, chance) < len(sound):
        pass
    events = client.finish()
    assert client.cuts > 20
    assert_whole(events)
    assert said(events) == said(converse(server, [sound]))


def said(events: list[dict[str, Any]]) -> list[list[tuple[str, float, float]]]:
    """Return each utterance's words and times. Confidence differs in its last digit with what steps along."""
    utterances = [event["words"] for event in events if event["type"] == "final"]
    return [[(word["word"], word["start"], word["end"]) for word in words] for words in utterances]


def test_what_was_told_while_nobody_listened_is_told_again(server: str) -> None:
    client = Client(server, pcm(sample()))
    with client.connected() as (connection, _):
        connection.send(pcm(sample()))
        connection.send(json.dumps({"type": "end"}))
        while json.loads(connection.recv(timeout=10))["type"] != "partial":
            pass
        break_off(connection, 0)
    with client.connected() as (connection, received):
        assert received == len(pcm(sample()))
        events = client.events + [json.loads(message) for message in connection]
    assert_whole(events)
    assert finals(events) == [HEARD]


def test_a_commit_is_counted_so_that_it_is_neither_lost_nor_doubled(server: str) -> None:
    with opened(server) as connection:
        session = json.loads(connection.recv(timeout=10))["session"]
        connection.send(pcm(sample()))
        connection.send(json.dumps({"type": "commit"}))
        while json.loads(connection.recv(timeout=10))["type"] != "committed":
            pass
        break_off(connection, 3)
    with opened(server, f"session={session}") as connection:
        ready = json.loads(connection.recv(timeout=10))
        assert (ready["commits"], ready["received"]) == (1, len(pcm(sample())))


def test_another_connection_takes_a_stream_over(server: str) -> None:
    with opened(server) as first:
        session = json.loads(first.recv(timeout=10))["session"]
        first.send(pcm(sample())[:64_000])
        while json.loads(first.recv(timeout=10))["type"] != "partial":
            pass
        with opened(server, f"session={session}") as second:
            received = json.loads(second.recv(timeout=10))["received"]
            drain(first)
            assert (first.close_code, first.close_reason) == (4000, "resumed by another connection")
            second.send(pcm(sample())[received:])
            second.send(json.dumps({"type": "end"}))
            assert finals([json.loads(message) for message in second]) == [HEARD]


@pytest.mark.parametrize(
    ("session", "after", "code"),
    [("nobody", "0", "session_gone"), ("", "0", "bad_request"), ("nobody", "later", "bad_request")],
)
def test_what_cannot_be_resumed_is_told(server: str, session: str, after: str, code: str) -> None:
    if not session or not after.isdigit():
        with pytest.raises(Exception, match="HTTP 400"):
            opened(server, f"session={session}&after={after}")
        return
    with opened(server, f"session={session}&after={after}") as connection:
        event = json.loads(connection.recv(timeout=5))
        assert (event["type"], event["error"]["code"]) == ("error", code)
        assert "Open a new one" in event["error"]["message"]
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=5)
        assert (connection.close_code, connection.close_reason) == (1008, code)


def test_an_event_that_never_was_cannot_be_the_last_one_seen(server: str) -> None:
    with opened(server) as first:
        session = json.loads(first.recv(timeout=10))["session"]
        with opened(server, f"session={session}&after=99") as second:
            assert "at most 0" in json.loads(second.recv(timeout=5))["error"]["message"]
        first.send(pcm(sample()))
        first.send(json.dumps({"type": "end"}))
        assert finals([json.loads(message) for message in first]) == [HEARD]


def vanish(url: str) -> str:
    """Open a stream and break its connection; its session."""
    with opened(url) as connection:
        session = str(json.loads(connection.recv(timeout=10))["session"])
        break_off(connection, 0)
    return session


def answer(url: str, session: str) -> str:
    with opened(url, f"session={session}") as connection:
        event = json.loads(connection.recv(timeout=5))
        return str(event.get("error", event).get("code", event["type"]))


def test_a_client_that_says_goodbye_is_not_waited_for(server: str) -> None:
    with opened(server) as connection:
        session = json.loads(connection.recv(timeout=10))["session"]
    deadline = time.monotonic() + 5
    while answer(server, session) != "session_gone" and time.monotonic() < deadline:
        pass
    assert answer(server, session) == "session_gone"


def test_only_so_many_streams_are_kept_and_only_for_so_long(settings: Settings) -> None:
    patient = settings.model_copy(update={"stream": StreamLimits(resume=60.0, most_kept=2)})
    with running(patient) as url:
        gone, *kept = [vanish(url) for _ in range(3)]
        deadline = time.monotonic() + 5
        while answer(url, gone) != "session_gone":
            assert time.monotonic() < deadline
        assert [answer(url, one) for one in kept] == ["ready", "ready"]
    hurried = settings.model_copy(update={"stream": StreamLimits(resume=0.0)})
    with running(hurried) as url:
        session = vanish(url)
        deadline = time.monotonic() + 5
        while answer(url, session) != "session_gone":
            assert time.monotonic() < deadline


def test_a_stream_is_warned_before_its_longest_time_ends_it(settings: Settings) -> None:
    short = settings.model_copy(update={"stream": StreamLimits(longest_stream=1.0, notice=0.6)})
    with running(short) as url, opened(url) as connection:
        connection.send(pcm(sample()))
        events = drain(connection)
    (warning,) = [event for event in events if event["type"] == "warning"]
    assert (warning["code"], warning["seconds"]) == ("stream_ending", 0.6)
    assert finals(events) == [HEARD]
    assert events[-1]["reason"] == "longest"
    assert (connection.close_code, connection.close_reason) == (4001, "longest")


def drain(connection: ClientConnection) -> list[dict[str, Any]]:
    """Take all that still comes until the server closes, whatever its code."""
    events = []
    try:
        while True:
            events.append(json.loads(connection.recv(timeout=10)))
    except ConnectionClosed:
        return events
