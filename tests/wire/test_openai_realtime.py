from dataclasses import replace
from typing import Any

from nautilus.types import Token, Word
from nautilus.wire.openai_realtime import RealtimeSession
from nautilus.wire.realtime_items import Items

BY_SERVER = RealtimeSession(model="any")
BY_CLIENT = replace(BY_SERVER, vad=None)
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"


def words(text: str) -> tuple[Word, ...]:
    return tuple(Word(one, n, n + 0.5, 0.9, (Token(one, -0.1),)) for n, one in enumerate(text.split()))


def told(events: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return all deltas joined, and the transcripts that are complete."""
    deltas = "".join(event["delta"] for event in events if event["type"] == DELTA)
    return deltas, [event["transcript"] for event in events if event["type"] == COMPLETED]


def test_deltas_go_on_from_each_other_and_are_the_transcript() -> None:
    items = Items()
    events = [
        event for text in ("set", "set a", "set a", "set a timer") for event in items.partial(words(text), BY_SERVER)
    ]
    assert [event["delta"] for event in events] == ["set", " a", " timer"]
    events += items.final(words("set a timer now"), 4.0, BY_SERVER)
    assert told(events) == ("set a timer now", ["set a timer now"])


def test_a_word_that_turns_out_otherwise_is_not_told_again_and_the_transcript_has_it_right() -> None:
    items = Items()
    events = items.partial(words("set a time"), BY_SERVER)
    events += items.partial(words("set a timer for"), BY_SERVER)
    events += items.final(words("set a timer for me"), 4.0, BY_SERVER)
    assert told(events) == ("set a time", ["set a timer for me"])
    following = items.partial(words("and then"), BY_SERVER)
    assert told(following) == ("and then", [])


def test_an_item_of_many_utterances_is_all_of_them() -> None:
    items = Items()
    events = items.partial(words("one too"), BY_CLIENT)
    events += items.final(words("one two"), 2.0, BY_CLIENT)
    events += items.partial(words("three"), BY_CLIENT)
    events += items.final(words("three four"), 4.0, BY_CLIENT)
    events += items.complete(4.0, BY_CLIENT)
    assert told(events) == ("one too three four", ["one two three four"])


def test_log_probabilities_are_those_of_the_transcript() -> None:
    items, asking = Items(), replace(BY_SERVER, logprobs=True)
    items.partial(words("set a time"), asking)
    (completed,) = [event for event in items.final(words("set a timer"), 3.0, asking) if event["type"] == COMPLETED]
    assert [entry["token"] for entry in completed["logprobs"]] == ["set", "a", "timer"]
