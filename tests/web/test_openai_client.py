"""The official client, unmodified, against a real server."""

from collections.abc import Iterator

import openai
import pytest

from tests.web.clips import spoken, wav


@pytest.fixture(scope="module")
def client(fake_server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{fake_server}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_json(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=wav(3), model="whisper-1")
    assert answer.text == "zero one two"
    assert answer.usage is not None
    assert answer.usage.model_dump() == {"type": "duration", "seconds": 3.0}


def test_verbose_json_with_words_and_segments(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        file=("talk.wav", wav(3)),
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.text, answer.language, answer.duration) == ("zero one two", "english", 3.0)
    assert answer.words is not None
    assert answer.words[0].model_dump() == {"word": "zero", "start": 0.25, "end": 0.75}
    assert answer.segments is not None
    assert answer.segments[0].text == "zero one two"


def test_text_srt_and_vtt_come_as_they_are(client: openai.OpenAI) -> None:
    ask = client.audio.transcriptions.create
    assert ask(file=wav(1), model="whisper-1", response_format="text") == "zero\n"
    assert ask(file=wav(1), model="whisper-1", response_format="srt").startswith("1\n00:00:00,250 --> ")
    assert ask(file=wav(1), model="whisper-1", response_format="vtt").startswith("WEBVTT\n\n00:00:00.250 --> ")


def test_a_stream_of_deltas_ends_with_the_transcript(client: openai.OpenAI) -> None:
    events = list(client.audio.transcriptions.create(file=spoken(12), model="gpt-4o-transcribe", stream=True))
    assert len(events) > 2
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    final = events[-1]
    assert final.type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1] if event.type == "transcript.text.delta") == final.text


def test_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=wav(1), model="gpt-4o-transcribe", include=["logprobs"])
    assert answer.logprobs == []


def test_a_fault_during_a_stream_is_raised(client: openai.OpenAI) -> None:
    events = client.audio.transcriptions.create(file=b"not audio", model="whisper-1", stream=True)
    with pytest.raises(openai.APIError, match="not an audio or video file"):
        list(events)


def test_errors_carry_message_code_and_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.audio.transcriptions.create(file=b"not audio", model="whisper-1")
    assert (refusal.value.code, refusal.value.param) == ("bad_audio", "file")
    assert refusal.value.request_id


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="whisper-9"):
        client.audio.transcriptions.create(file=wav(1), model="whisper-9")


def test_translation_is_refused_clearly(client: openai.OpenAI) -> None:
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError, match="does not translate"),
    ):
        client.audio.translations.create(file=wav(1), model="whisper-1")


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "whisper-1" in names
    assert client.models.retrieve(names[0]).id == names[0]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("whisper-9")
