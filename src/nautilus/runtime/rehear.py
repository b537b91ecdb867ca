"""Live streams for a model that can't go on from where it stopped: it hears each utterance again and again.

    sound ──▶ detector ─silence─▶ forgotten, but for a little
                       ─speech──▶ the utterance grows: whenever it has grown enough it is heard again, for partials
                       ─pause───▶ all of it is heard at once; should the pause last, these are its final words

A word is stable when two hearings in a row agree on all words up to it: LocalAgreement-2 (Macháček, Dabre and Bojar,
Turning Whisper into Real-Time Transcription System, 2023). One hearing is asked at a time, and the longer an utterance
is, the rarer: all of them together hear each second at most some ten times. A slow model costs partials, never finals.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import structlog

from nautilus.audio.live_vad import STEP, LiveVad
from nautilus.audio.tape import Tape
from nautilus.audio.vad import HOP, VadLimits
from nautilus.engines.base import EngineInfo, Live
from nautilus.errors import EngineError, OverloadedError, first_error
from nautilus.runtime.ears import Ears, Submit
from nautilus.runtime.live import check_wait, later
from nautilus.runtime.places import Places
from nautilus.runtime.track import SpeechTrack
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform, Word

log = structlog.get_logger(__name__)

LEAD: Final = 0.8
"""Seconds before its first speech with which an utterance is heard; with half of that, the embedded model errs more."""
TAIL: Final = 0.2
"""Seconds after its last speech with which it is heard."""
GROWTH: Final = 0.125
"""Share of its length by which an utterance must have grown before it is heard again."""


class Rehearser:
    """Opens streams at a lane whose model hears none."""

    def __init__(self, submit: Submit, info: EngineInfo, places: Places, threads: Executor | None) -> None:
        self._submit = submit
        self._info = info
        self._places = places
        self._threads = threads

    @asynccontextmanager
    async def stream(self, wait: float, options: Options) -> AsyncIterator["RehearsedStream"]:
        """Open a stream for the length of the block; see `Lane`."""
        check_wait(wait, self._info)
        with self._places.taken(wait), first_error():
            async with asyncio.TaskGroup() as tasks:
                stream = RehearsedStream(Ears(self._submit, self._info, options, self._threads), wait, tasks)
                try:
                    yield stream
                finally:
                    stream.abandon()


class RehearsedStream:
    """One stream, by one caller; see `Stream`."""

    def __init__(self, ears: Ears, wait: float, tasks: asyncio.TaskGroup) -> None:
        self.chunk = STEP * HOP
        self._ears = ears
        self._wait = wait
        self._tasks = tasks
        self._vad = LiveVad()
        self._track = SpeechTrack()
        self._tape = Tape()
        self._asked: asyncio.Task[None] | None = None
        """The hearing that a partial will come of."""
        self._begin(0.0, 0.0)

    def __repr__(self) -> str:
        return f"<RehearsedStream {self._track}, {len(self._live.hypothesis.words)} words>"

    async def hear(self, sound: Waveform) -> Live:
        """Take the next samples; see `Stream`."""
        for start in range(0, len(sound), self.chunk):
            await self._take(sound[start : start + self.chunk])
        return self._live

    async def cut(self, live: Live) -> Live:
        """End the utterance; see `Stream`."""
        speech, keep_from = self._track.speech, live.until
        if speech is not None and not self._whole:
            live = await self._heard_whole(live.until, live)
        elif speech is not None:
            keep_from = min(keep_from, speech.end + TAIL)
        self._begin(live.until, keep_from)
        return live

    async def finish(self) -> Live:
        """End the utterance with the last sample; see `Stream`."""
        now = self._tape.end / SAMPLE_RATE
        rest = await asyncio.get_running_loop().run_in_executor(self._ears.threads, self._vad.rest)
        goes_on = self._track.open or rest.max(initial=0.0) >= VadLimits().threshold
        live = replace(self._live, until=now)
        if goes_on or (self._track.speech is not None and not self._whole):
            live = await self._heard_whole(now, live)
        self._begin(now, now)
        return live

    def abandon(self) -> None:
        """Ask for nothing any more."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _begin(self, at: float, keep_from: float) -> None:
        """Begin a new utterance at that second of the stream; it may be heard with the silence before."""
        self.abandon()
        self._begun = at
        self._start = keep_from
        """Where the utterance's sound begins."""
        self._track.begin(at)
        self._live = Live(Hypothesis(""), at, 0.0, 0)
        self._whole = False
        """Whether what is told of it was heard in one hearing of all of it."""
        self._before: tuple[Word, ...] = ()
        """Words of a long utterance that are not heard again for partials …"""
        self._from = self._asked_at = keep_from
        """… and where the sound that is begins; how much had come when a partial was asked last."""
        self._texts: tuple[str, ...] = ()
        self._tape.forget(_sample(keep_from))

    async def _take(self, piece: Waveform) -> None:
        """Take what the detector judges in at most one step."""
        self._tape.append(piece)
        if len(piece) < self._vad.needed:
            self._vad.add(piece)
            return
        probabilities = await asyncio.get_running_loop().run_in_executor(self._ears.threads, self._vad.add, piece)
        before = self._track.speech
        ended = self._track.add(probabilities)
        if before is None and self._track.speech is not None:
            self._asked_at = self._track.speech.start
            self._start = self._from = max(self._start, self._asked_at - LEAD)
        if ended is not None:
            await self._hear_pause(ended)
        self._go_on(self._track.heard)

    def _go_on(self, heard: float) -> None:
        """Tell how far the stream is heard now."""
        speech = self._track.speech
        if speech is None:
            self._be_silent(heard)
        elif self._track.open:
            self._rehear(heard, heard - speech.end)
        else:
            self._live = replace(self._live, until=heard, silence=heard - speech.end)

    def _be_silent(self, heard: float) -> None:
        """Forget what nobody spoke in, but for what comes shortly before somebody does."""
        self._start = max(self._start, heard - LEAD)
        self._tape.forget(_sample(self._start))
        until = max(heard, self._begun)
        self._live = Live(Hypothesis(""), until, until - self._begun, 0)

    async def _hear_pause(self, end: float) -> None:
        """Hear all of the utterance, which may be over; what has no words was none."""
        self.abandon()
        live = Live(Hypothesis(""), self._track.heard, self._track.heard - end)
        if end + TAIL - self._start <= self._ears.info.max_seconds:
            self._live = await self._heard_whole(end + TAIL, live)
        else:
            await self._hear_part(self._from, end + TAIL, live, must=True)
        if not self._live.hypothesis.words:
            self._begin(self._track.heard, end + TAIL)

    def _rehear(self, heard: float, silence: float) -> None:
        """Ask for a partial, if the utterance has grown enough and the last one is answered."""
        grown = heard - self._asked_at
        if self._asked is not None or grown < max(self._wait, GROWTH * (heard - self._start)):
            return
        self._asked_at = heard
        start = max(self._from, heard - self._ears.info.max_seconds)
        live = Live(Hypothesis(""), heard, silence)
        self._asked = self._tasks.create_task(self._partial(start, live), name="hear for a partial")

    async def _partial(self, start: float, live: Live) -> None:
        try:
            await self._hear_part(start, live.until, live, must=False)
        except (EngineError, OverloadedError) as error:
            log.warning("no partial", model=self._ears.info.name, error=str(error))
        self._asked = None

    async def _hear_part(self, start: float, end: float, live: Live, *, must: bool) -> None:
        """Hear what is not settled of the utterance, and settle what two hearings agree on once there is much of it."""
        heard = later(await self._ears.hear(self._sound(start, end), must=must), start)
        words = (*self._before, *heard.words)
        stable = max(len(self._before), self._agreed(words))
        self._tell(replace(live, hypothesis=_of(words, heard)), stable)
        if end - self._from > self._ears.info.max_seconds / 2 and stable > len(self._before):
            self._before = words[:stable]
            self._from = words[stable - 1].end

    async def _heard_whole(self, end: float, live: Live) -> Live:
        """Hear all of the utterance up to that second, as if it were a recording."""
        self.abandon()
        heard = later(await self._ears.hear_all(self._sound(self._start, end)), self._start)
        self._tell(replace(live, hypothesis=heard), self._agreed(heard.words))
        self._whole = True
        return self._live

    def _tell(self, live: Live, stable: int) -> None:
        self._live = replace(live, stable=stable)
        self._whole = False

    def _agreed(self, words: tuple[Word, ...]) -> int:
        """Return how many of the first words the last hearing had as well."""
        texts = tuple(word.text for word in words)
        before, self._texts = self._texts, texts
        same = [ours == theirs for ours, theirs in zip(texts, before, strict=False)]
        return same.index(False) if False in same else len(same)

    def _sound(self, start: float, end: float) -> Waveform:
        return self._tape.read(_sample(start), _sample(end))


def _of(words: tuple[Word, ...], heard: Hypothesis) -> Hypothesis:
    return Hypothesis(" ".join(word.text for word in words), words, heard.language)


def _sample(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
