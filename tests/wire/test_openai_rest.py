import json
from dataclasses import replace
from typing import Any

import pytest

from nautilus.errors import BadAudioError
from nautilus.wire.forms import FORMATS, TranscriptionForm, read_form
from nautilus.wire.openai_rest import delta, done, error_body, event, render
from tests.wire.sample import TRANSCRIPT, WORDS

VTT = "WEBVTT\n\n00:00:00.240 --> 00:00:01.240\nhello world.\n\n00:00:02.400 --> 00:00:03.500\nfish &amp; chips\n"


def body(**fields: str) -> dict[str, Any]:
    form = read_form((name.replace("__", "[]"), value) for name, value in fields.items())
    parsed: dict[str, Any] = json.loads(render(TRANSCRIPT, form))
    return parsed


def test_json_has_the_text_and_the_usage_in_whole_seconds() -> None:
    assert body() == {
        "text": "hello world. fish & chips",
        "languages": [{"code": "en"}],
        "usage": {"type": "duration", "seconds": 4},
    }


def test_json_tells_log_probabilities_when_asked() -> None:
    logprobs = body(include__="logprobs")["logprobs"]
    assert logprobs[0] == {"token": " hel", "logprob": -0.1, "bytes": [32, 104, 101, 108]}
    assert "".join(entry["token"] for entry in logprobs).strip() == TRANSCRIPT.text


def test_verbose_json_segments_have_all_ten_fields_and_no_null() -> None:
    verbose = body(response_format="verbose_json")
    assert (verbose["language"], verbose["duration"], verbose["task"]) == ("english", 3.71, "transcribe")
    assert "words" not in verbose
    for segment in verbose["segments"]:
        assert list(segment) == [
            *("id", "seek", "start", "end", "text", "tokens", "temperature"),
            *("avg_logprob", "compression_ratio", "no_speech_prob"),
        ]
        assert None not in segment.values()


def test_verbose_json_has_words_instead_of_segments_when_asked() -> None:
    verbose = body(response_format="verbose_json", timestamp_granularities__="word")
    assert "segments" not in verbose
    assert verbose["words"][1] == {"word": "world.", "start": 0.64, "end": 1.04}


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ("text", "hello world. fish & chips\n"),
        (
            "srt",
            "1\n00:00:00,240 --> 00:00:01,240\nhello world.\n\n2\n00:00:02,400 --> 00:00:03,500\nfish & chips\n",
        ),
        (
            "vtt",
            VTT,
        ),
    ],
)
def test_text_formats(response_format: str, expected: str) -> None:
    assert render(TRANSCRIPT, read_form([("response_format", response_format)])) == expected


def test_an_empty_transcript_renders_in_every_format() -> None:
    empty = replace(TRANSCRIPT, text="", segments=())
    rendered = {name: render(empty, TranscriptionForm(response_format=name)) for name in FORMATS}
    assert (rendered["text"], rendered["srt"], rendered["vtt"]) == ("\n", "", "WEBVTT\n")
    assert json.loads(rendered["json"])["text"] == ""
    assert json.loads(rendered["verbose_json"])["segments"] == []


def test_an_unknown_language_is_still_a_string() -> None:
    silent = replace(TRANSCRIPT, language=None)
    assert json.loads(render(silent, TranscriptionForm(response_format="verbose_json")))["language"] == "unknown"


def test_deltas_concatenate_to_the_transcript() -> None:
    form = TranscriptionForm(stream=True)
    events = [delta(WORDS[:2], form, first=True), delta(WORDS[2:], form, first=False)]
    assert "".join(json.loads(one.removeprefix("data: "))["delta"] for one in events) == TRANSCRIPT.text


def test_a_stream_ends_with_done() -> None:
    final, end, rest = done(TRANSCRIPT, TranscriptionForm(stream=True)).split("\n\n")
    assert json.loads(final.removeprefix("data: "))["type"] == "transcript.text.done"
    assert (end, rest) == ("data: [DONE]", "")


def test_every_frame_is_one_line_of_data() -> None:
    assert event({"text": "a\nb"}) == 'data: {"text":"a\\nb"}\n\n'


def test_warnings_are_told() -> None:
    warned = replace(TRANSCRIPT, warnings=("The recording ends early.",))
    form = TranscriptionForm(warnings=("prompt has no effect.",))
    assert json.loads(render(warned, form))["warnings"] == ["prompt has no effect.", "The recording ends early."]


def test_errors_have_openai_s_four_members() -> None:
    assert error_body(BadAudioError("The file is empty."), "invalid_request_error", "The file is empty.") == {
        "error": {
            "message": "The file is empty.",
            "type": "invalid_request_error",
            "param": "file",
            "code": "bad_audio",
        }
    }
