"""The AsyncAPI document says what the code does: its examples are valid, and no message is missing or too many."""

import base64
import json
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from jsonschema import Draft7Validator

from nautilus.audio.live_decode import CONTAINERS
from nautilus.audio.pcm import ENCODINGS
from nautilus.settings import Settings
from nautilus.stream.session import StreamLimits
from nautilus.web.stream import ENDS
from nautilus.wire import live, openai_realtime
from tests.conftest import ROOT, running
from tests.engines.sounds import sample, silence
from tests.web import test_realtime, test_stream
from tests.web.test_realtime import BY_SERVER, MANUAL, at_24_khz, say
from tests.web.test_stream import pcm


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
    return loaded


def messages(operation: str) -> dict[str, dict[str, Any]]:
    """Return the messages of an operation by the type that they have on the wire."""
    found = {}
    for place in document()["operations"][operation]["messages"]:
        message = document()["components"]["messages"][place["$ref"].rpartition("/")[2]]
        found[message["name"]] = message
    return found


def check(payload: dict[str, Any], message: dict[str, Any]) -> None:
    schema = message["payload"] | {"components": document()["components"]}
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(payload)


@pytest.mark.parametrize("name", document()["components"]["messages"])
def test_every_example_is_what_its_schema_says(name: str) -> None:
    message = document()["components"]["messages"][name]
    if message["contentType"] != "application/json":
        return
    assert message["payload"]["properties"]["type"]["const"] == message["name"]
    assert message["examples"]
    for example in message["examples"]:
        check(example["payload"], message)


def test_no_message_is_missing_or_too_many() -> None:
    assert set(messages("tell")) == set(get_args(live.Kind))
    assert set(messages("hear")) == {"sound", *live.WISHES}
    assert set(messages("tellRealtime")) == set(get_args(openai_realtime.Kind))
    assert set(messages("hearRealtime")) == set(openai_realtime.ACCEPTED)
    operations = document()["operations"].values()
    used = {place["$ref"].rpartition("/")[2] for operation in operations for place in operation["messages"]}
    assert used == set(document()["components"]["messages"])


def test_every_parameter_and_encoding_is_named() -> None:
    query = document()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    assert set(query) == live.PARAMETERS
    assert set(query["encoding"]["enum"]) == {*ENCODINGS, *CONTAINERS}
    assert query["delay"]["enum"] == list(live.DELAYS)
    assert set(messages("tell")["end"]["payload"]["properties"]["reason"]["enum"]) == set(ENDS)


def test_what_a_stream_tells_is_as_documented(settings: Settings) -> None:
    known, seen = messages("tell"), set()
    warned = settings.model_copy(update={"stream": StreamLimits(longest_stream=60.0, notice=60.0)})
    with running(warned) as url, test_stream.opened(url) as connection:
        connection.send(pcm(np.concatenate([sample(), silence(1.5)])))
        connection.send(json.dumps(messages("hear")["commit"]["examples"][0]["payload"]))
        connection.send(json.dumps(messages("hear")["end"]["examples"][0]["payload"]))
        for event in map(json.loads, connection):
            check(event, known[event["type"]])
            seen.add(event["type"])
        with test_stream.opened(url, "session=nobody") as refused:
            error = json.loads(refused.recv(timeout=5))
        check(error, known["error"])
    assert seen | {"error"} == set(known)


def test_what_a_realtime_session_tells_is_as_documented(server: str) -> None:
    known: dict[str, dict[str, Any]] = messages("tellRealtime")
    seen: set[str] = set()
    include = {"include": ["item.input_audio_transcription.logprobs"]}
    with test_realtime.opened(server) as connection:
        for session in (BY_SERVER | include, MANUAL):
            say(connection, "session.update", session=session)
            sound = at_24_khz(np.concatenate([sample(), silence(1.5)]))
            say(connection, "input_audio_buffer.append", audio=base64.b64encode(sound).decode())
            say(connection, "input_audio_buffer.commit")
        for message in messages("hearRealtime").values():
            check(message["examples"][0]["payload"], message)
            connection.send(json.dumps(message["examples"][0]["payload"]))
        say(connection, "input_audio_buffer.clear", event_id="last")
        say(connection, "input_audio_buffer.commit")
        while seen != set(known):
            event = json.loads(connection.recv(timeout=20))
            check(event, known[event["type"]])
            seen.add(event["type"])
            assert "knows no" not in str(event)


def test_a_server_that_ends_a_stream_does_so_with_a_documented_code() -> None:
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    for code in (*ENDS.values(), 1008, 1011, 1013, 4000):
        assert f"| {code} |" in page


def test_the_version_is_that_of_the_package() -> None:
    from nautilus import __version__

    assert document()["info"]["version"] == __version__
