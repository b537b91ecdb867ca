"""The items of a Realtime session as events.

Deltas can't be taken back, so a word is told when the next one has begun.
"""

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

from nautilus.types import Word
from nautilus.wire import nvidia_realtime
from nautilus.wire.openai_realtime import Body, Kind, RealtimeSession
from nautilus.wire.openai_rest import logprobs


class Items:
    """The items of one conversation as events: what is told of each utterance, in OpenAI's order."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._item: str | None = None
        self._previous: str | None = None
        self._told: list[str] = []  # words of the current utterance, as deltas
        self._begun = False  # whether there were any deltas of the item
        self._text: list[str] = []  # of the item's utterances that are over
        self._logprobs: list[Body] = []
        self._words: list[Word] = []  # of the item
        self._all: list[Word] = []  # of all items, where the last event is to have them

    def event(self, kind: Kind, **fields: Any) -> Body:
        """Return an event with a number of its own."""
        return {"type": kind, "event_id": f"event_{next(self._numbers)}"} | fields

    def started(self, at: float, session: RealtimeSession) -> list[Body]:
        """Someone began to speak; `at` in seconds."""
        if session.vad is None:
            return []
        start = max(0, round(1000 * at) - session.vad.prefix_padding_ms)
        return [self.event("input_audio_buffer.speech_started", audio_start_ms=start, item_id=self._current())]

    def partial(self, words: Sequence[Word], session: RealtimeSession) -> list[Body]:
        """Tell words that will hardly change."""
        return self._deltas(words, session)

    def final(self, words: Sequence[Word], until: float, session: RealtimeSession) -> list[Body]:
        """Tell the rest of an utterance; where the server decides, its item is complete."""
        events = self._deltas(words, session)
        self._settle(words)
        if session.vad is None:
            return events
        end = round(1000 * until)
        events.append(self.event("input_audio_buffer.speech_stopped", audio_end_ms=end, item_id=self._current()))
        return events + self.complete(until - words[0].start, session)

    def complete(self, seconds: float, session: RealtimeSession) -> list[Body]:
        """Commit the current item and tell its whole transcript."""
        item = self._current()
        content = [{"type": "input_audio", "transcript": None}]
        shown = {"id": item, "object": "realtime.item", "type": "message", "status": "completed", "role": "user"}
        place = {"previous_item_id": self._previous, "item": shown | {"content": content}}
        events = [
            self.event("input_audio_buffer.committed", previous_item_id=self._previous, item_id=item),
            self.event("conversation.item.added", **place),
            self.event("conversation.item.done", **place),
            self._completed(" ".join(self._text), seconds, session),
        ]
        if session.nvidia:
            events[-1] |= nvidia_realtime.result(self._words, session.nvidia, last=False)
            self._all += self._words
        self._previous = item
        self.forget()
        return events

    def last(self, seconds: float, asked: nvidia_realtime.Dialect, session: RealtimeSession) -> Body:
        """Tell all words of a session that its client has ended, in NVIDIA's dialect."""
        told = self._completed(" ".join(word.text for word in self._all), seconds, session)
        return told | nvidia_realtime.result(self._all, asked, last=True)

    def forget(self) -> None:
        """Begin a new item."""
        self._item, self._told, self._begun, self._text, self._logprobs, self._words = None, [], False, [], [], []

    def _completed(self, transcript: str, seconds: float, session: RealtimeSession) -> Body:
        return self.event(
            "conversation.item.input_audio_transcription.completed",
            item_id=self._current(),
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(max(0.0, seconds), 3)},
            **({"logprobs": self._logprobs} if session.logprobs else {}),
        )

    def _current(self) -> str:
        if self._item is None:
            self._item = f"item_{os.urandom(10).hex()}"
        return self._item

    def _settle(self, words: Sequence[Word]) -> None:
        """Take the words of an utterance that is over: what the transcript says, whatever the deltas said."""
        self._text.append(" ".join(word.text for word in words))
        self._logprobs += [entry for word in words for entry in logprobs(word)]
        self._words += words
        self._told = []

    def _deltas(self, words: Sequence[Word], session: RealtimeSession) -> list[Body]:
        """Tell what goes on from the deltas before; nothing where these turn out to be wrong, as none is taken back."""
        texts = [word.text for word in words]
        fresh = words[len(self._told) :]
        if not fresh or texts[: len(self._told)] != self._told:
            return []
        self._told = texts
        text = " ".join(word.text for word in fresh)
        delta = f" {text}" if self._begun else text
        self._begun = True
        fields: Body = {"item_id": self._current(), "content_index": 0, "delta": delta}
        if session.logprobs:
            fields["logprobs"] = [entry for word in fresh for entry in logprobs(word)]
        return [self.event("conversation.item.input_audio_transcription.delta", **fields)]
