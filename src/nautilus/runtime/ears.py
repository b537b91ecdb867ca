"""What an utterance is heard with: the model's lane, as a recording of the utterance would be."""

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Protocol

from nautilus.audio.chunk import Planner, Window, WindowLimits, in_recording, join
from nautilus.audio.cuts import utterance_limits
from nautilus.audio.presence import confirmed, is_doubtful, spoken
from nautilus.audio.vad import is_warm
from nautilus.engines.base import EngineInfo
from nautilus.runtime.lane import Heard
from nautilus.types import SAMPLE_RATE, Claim, Hypothesis, Options, Priority, Waveform, Word

SHORT: Final = 10.0
"""Seconds of sound that are looked at without a thread: a millisecond, and to have a thread do it costs half as much
again, as it and the event loop wait for each other."""
LIVE: Final = Claim(Priority.LIVE)


class Submit(Protocol):
    """`Lane.submit`."""

    def __call__(
        self, audio: Waveform, options: Options, claim: Claim, /, *, admitted: bool = False
    ) -> Awaitable[Heard]:
        """Return what the model heard in one waveform."""
        ...


@dataclass(frozen=True, slots=True)
class Ears:
    """A model, as the live streams of one client use it."""

    submit: Submit
    info: EngineInfo
    options: Options
    threads: Executor | None
    """For what would hold the event loop; None: the loop's own."""

    async def hear(self, waveform: Waveform, *, must: bool = True) -> Hypothesis:
        """Hear one window. Raises EngineError; OverloadedError unless it `must` be heard."""
        heard = await self.submit(waveform, self.options, LIVE, admitted=must)
        words = await really_spoken(heard.hypothesis.words, waveform, self.threads)
        return Hypothesis(" ".join(word.text for word in words), words, heard.hypothesis.language)

    async def hear_all(self, waveform: Waveform) -> Hypothesis:
        """Hear an utterance of any length, as if it were a recording: with the same transcript. Raises EngineError."""
        words: list[Word] = []
        language = self.options.language
        for window in await self._windows(waveform):
            heard = await self.hear(window.audio)
            fresh = [in_recording(word, window) for word in heard.words]
            words = join(words, fresh, window.seam) if window.seam else [*words, *fresh]
            language = heard.language or language
        return Hypothesis(" ".join(word.text for word in words), tuple(words), language)

    async def _windows(self, waveform: Waveform) -> list[Window]:
        longest = self.info.max_seconds
        planner = Planner(utterance_limits(longest) if self.info.utterances else WindowLimits(longest))
        if len(waveform) <= longest * SAMPLE_RATE:
            return planner.whole(waveform)
        return await asyncio.get_running_loop().run_in_executor(self.threads, planner.whole, waveform)


async def really_spoken(words: tuple[Word, ...], waveform: Waveform, threads: Executor | None) -> tuple[Word, ...]:
    """Drop words where nobody speaks; detectors are asked only in doubt, and what takes long by one of the threads."""
    seconds = len(waveform) / SAMPLE_RATE
    if not is_doubtful(words, seconds):
        return words
    loop = asyncio.get_running_loop()
    if seconds <= SHORT and is_warm():
        finding = spoken(words, waveform)
    else:
        finding = await loop.run_in_executor(threads, spoken, words, waveform)
    if not finding.settled:
        finding = await loop.run_in_executor(threads, confirmed, finding, waveform)
    return finding.words
