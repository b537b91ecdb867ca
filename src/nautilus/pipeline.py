"""A recording → Transcript: the one walk that uploads and jobs share.

    sandbox (decode) ──blocks──▶ Planner (windows) ──▶ enhance ──▶ lane (each a ticket) ──in order──▶ join ──▶ segments

Windows are submitted a few ahead of the one whose answer is awaited, so the engine never starves, and memory holds a
few windows, however long the recording is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import BinaryIO, Final

import numpy as np

from nautilus.audio.chunk import Planner, Window, WindowLimits
from nautilus.audio.cuts import utterance_limits
from nautilus.audio.enhance import choose, enhance
from nautilus.audio.plain_wav import PlainRecording, read_plain_wav
from nautilus.audio.quality import Quality, bandwidth, measure
from nautilus.audio.sandbox import Recording, Sandbox
from nautilus.audio.vad import speech_probabilities
from nautilus.engines.base import EngineInfo
from nautilus.errors import AudioTooLongError, AudioTooShortError, UnsupportedError, first_error
from nautilus.hearing import AudioLimits, Earlier, Emit, Hearing, Piece, Task
from nautilus.observe import Count
from nautilus.runtime.ears import SHORT
from nautilus.runtime.lane import check_language
from nautilus.runtime.pool import ModelPool
from nautilus.segments import segments_of
from nautilus.traces.trace import NOWHERE, here, span
from nautilus.types import SAMPLE_RATE, AudioFacts, Level, Options, Priority, Timings, Transcript, Waveform

LONG_LEASE: Final = 0.01
"""Seconds that a model is waited for before it is worth a span: mostly it is in memory, at once."""


async def _ignore(piece: Piece) -> None:
    del piece


class Requests:
    """Whether somebody waits for an answer, or did a moment ago. Jobs don't count."""

    def __init__(self) -> None:
        self._count = 0
        self._answered = -inf

    def since(self) -> float:
        """Return for how many seconds nobody has waited: 0 while somebody does."""
        return 0.0 if self._count else time.monotonic() - self._answered

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one for the length of a block."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._answered = time.monotonic()


class Pipeline:
    """Turns recordings into transcripts. One for the whole server; holds no state of a request."""

    def __init__(
        self,
        sandbox: Sandbox,
        pool: ModelPool,
        threads: Executor,
        limits: AudioLimits,
        heard: Count,
        requests: Requests | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._pool = pool
        self._threads = threads
        self._limits = limits
        self._heard = heard
        """Seconds of recordings transcribed."""
        self._warm = False
        """Whether what measures recordings is there at once."""
        self.requests = requests or Requests()
        """Those that are being heard, here or in another pipeline that shares this."""

    def warm_up(self) -> None:
        """Import what measures and doubts recordings, which takes a third of a second; called from a thread."""
        silence = np.zeros(SAMPLE_RATE, np.float32)
        measure(silence)
        speech_probabilities(silence)
        self._warm = True

    async def transcribe(
        self, file: BinaryIO, task: Task, emit: Emit = _ignore, earlier: Earlier | None = None
    ) -> Transcript:
        """Hear a whole recording. Cancel to drop it; what was told to `emit` until then can be gone on from.

        With what came of an `earlier` hearing, windows that were heard are decoded and cut again, but not heard.

        Raises BadAudioError, UnsupportedError, UnknownModelError, OverloadedError, NotReadyError or EngineError.
        """
        started = time.monotonic()
        async with AsyncExitStack() as until_answered:
            if task.claim.priority < Priority.JOB:
                until_answered.enter_context(self.requests.one())
            lane = await until_answered.enter_async_context(self._pool.lease(task.model))
            _tell_lease(task.model, started)
            options, warnings = settle(task.options, lane.info)
            task = replace(task, options=options)
            lane.check(task.claim)  # before anything is decoded
            async with self._opened(file, task) as recording:
                hearing = Hearing(lane, task, emit, self._limits, self._threads, earlier)
                hearing.total = recording.facts.declared_seconds
                preparing = Preparing(task, lane.info)
                with first_error():
                    async with asyncio.TaskGroup() as tasks:
                        async for window in self._windows(recording, preparing):
                            await hearing.hear(window, tasks)
                        await hearing.finish()
                self._heard.add(preparing.seconds)
                transcript = _transcript(recording, preparing, hearing, time.monotonic() - started)
                _tell(transcript, task)
                return replace(transcript, warnings=warnings + transcript.warnings)

    @asynccontextmanager
    async def _opened(self, file: BinaryIO, task: Task) -> AsyncIterator[Recording | PlainRecording]:
        async with AsyncExitStack() as opened:
            with span("decode"):  # the first block, or all there is
                recording: Recording | PlainRecording | None = read_plain_wav(file) if task.channel is None else None
                if recording is None:
                    recording = await opened.enter_async_context(self._sandbox.open(file, task.channel, task.claim))
            yield recording

    async def _windows(self, recording: Recording | PlainRecording, preparing: "Preparing") -> AsyncIterator[Window]:
        """Read a recording to its end and yield its windows as they are complete."""
        while (block := await _next_block(recording, preparing)) is not None:
            is_whole = recording.at_end and not preparing.seconds
            preparing.seconds += len(block) / SAMPLE_RATE
            if preparing.seconds > self._limits.max_seconds:
                raise AudioTooLongError(self._limits.max_seconds)
            if recording.at_end and preparing.seconds < self._limits.min_seconds:
                break
            add = partial(preparing.add, block, recording.at_end)
            for window in await self._prepared(preparing, add, whole=block if is_whole else None):
                yield window
        if preparing.seconds < self._limits.min_seconds:
            raise AudioTooShortError(preparing.seconds, self._limits.min_seconds)
        if not preparing.finished:  # the last block was a whole one, so nobody knew that it was the last
            for window in await self._prepared(preparing, preparing.finish):
                yield window

    async def _prepared(
        self, preparing: "Preparing", prepare: Callable[[], list[Window]], whole: Waveform | None = None
    ) -> list[Window]:
        with span("enhance", {"nautilus.level": preparing.level}) as enhancing:
            windows = preparing.at_once(whole) if whole is not None and self._warm else None
            if windows is None:
                windows = await asyncio.get_running_loop().run_in_executor(self._threads, prepare)
                self._warm = self._warm or preparing.quality is not None
            enhancing.note({"nautilus.windows": len(windows)})
        return windows


class Preparing:
    """What one recording goes through before the model. Blocking but for `at_once`; in one thread at a time."""

    def __init__(self, task: Task, info: EngineInfo) -> None:
        self.seconds = 0.0
        """Seconds of audio read so far."""
        self.enhance_seconds = 0.0
        """Seconds spent on cleaning and on planning windows."""
        self.quality: Quality | None = None
        """Of the first window; None where nothing was measured."""
        self.bandwidth: float | None = None
        """Of the first window, hertz; None where it was not measured."""
        self.finished = False
        """Whether all windows have been given."""
        self.level: Level = task.level
        self._with_bandwidth = task.bandwidth and task.level != "none"
        limits = utterance_limits(info.max_seconds) if info.utterances else WindowLimits(info.max_seconds)
        self._longest = limits.max_seconds
        self._planner = Planner(replace(limits, remove_silence=task.level == "high"))

    @property
    def speech_seconds(self) -> float:
        """Seconds that the model was given."""
        return self._planner.speech_seconds

    def at_once(self, recording: Waveform) -> list[Window] | None:
        """Return the windows of a recording that is short and needs no cleaning; None of any other.

        It does not block: to measure a few seconds takes less than to have a thread do it.
        """
        if self.seconds > min(SHORT, self._longest) or self.level not in ("none", "auto"):
            return None
        started = time.perf_counter()
        if self.level == "auto":
            self.quality = measure(recording)
            if choose(self.quality) != "none":
                return None
        self._measure_bandwidth(recording)
        self.finished = True
        windows = self._planner.whole(recording)
        self.enhance_seconds += time.perf_counter() - started
        return windows

    def add(self, block: Waveform, is_last: bool) -> list[Window]:
        """Return the windows that the next block completes, cleaned; after the last block, all that are left."""
        started = time.perf_counter()
        self.finished = is_last
        return self._cleaned(self._planner.whole(block) if is_last else self._planner.add(block), started)

    def finish(self) -> list[Window]:
        """Return the windows of what is left."""
        started = time.perf_counter()
        self.finished = True
        return self._cleaned(self._planner.finish(), started)

    def _cleaned(self, windows: list[Window], started: float) -> list[Window]:
        """Clean each window by itself: what a window becomes never depends on how the recording came."""
        cleaned = []
        for window in windows:
            enhanced = enhance(window.audio, self.level)
            self.quality = self.quality or enhanced.quality
            self._measure_bandwidth(window.audio)
            recorded = None if enhanced.waveform is window.audio else window.audio
            cleaned.append(replace(window, audio=enhanced.waveform, recorded=recorded))
        self.enhance_seconds += time.perf_counter() - started
        return cleaned

    def _measure_bandwidth(self, waveform: Waveform) -> None:
        if self._with_bandwidth and self.bandwidth is None:
            self.bandwidth = bandwidth(waveform)


def settle(options: Options, info: EngineInfo) -> tuple[Options, tuple[str, ...]]:
    """Return what the model can honour, and warnings of what it can't. Raises UnsupportedError where that matters."""
    if options.translate_to and not info.translates:
        raise UnsupportedError(f"The model {info.name} does not translate; use a Canary model.", "model")
    check_language(options.language, info)
    if options.keywords and not info.keywords:
        return replace(options, keywords=()), (f"keywords have no effect: the model {info.name} takes none.",)
    return options, ()


async def _next_block(recording: Recording | PlainRecording, preparing: Preparing) -> Waveform | None:
    """Read the next block; None at the end. The first one was decoded when the recording was opened."""
    since = time.monotonic()
    block = await recording.read()
    if preparing.seconds and block is not None and (trace := here()):
        trace.add("decode", since, time.monotonic(), {"nautilus.from_second": preparing.seconds})
    return block


def _tell_lease(model: str, since: float) -> None:
    """Say that a model was waited for, if it was."""
    now = time.monotonic()
    if now - since > LONG_LEASE and (trace := here()):
        trace.add("lease", since, now, {"nautilus.model": model})


def _tell(transcript: Transcript, task: Task) -> None:
    """Say of the request or file that is traced what was heard."""
    facts = transcript.audio
    (here() or NOWHERE).note(
        {
            "nautilus.model": transcript.model,
            "nautilus.audio_seconds": facts.duration,
            "nautilus.speech_seconds": facts.speech_seconds,
            "nautilus.container": facts.container,
            "nautilus.codec": facts.codec,
            "nautilus.priority": task.claim.priority.name.lower(),
        }
    )


def _transcript(
    recording: Recording | PlainRecording, preparing: Preparing, hearing: Hearing, total: float
) -> Transcript:
    quality = preparing.quality
    facts = AudioFacts(
        duration=preparing.seconds,
        sample_rate=recording.facts.sample_rate,
        channels=recording.facts.channels,
        container=recording.facts.container,
        codec=recording.facts.codec,
        speech_seconds=preparing.speech_seconds,
        snr=quality.snr_db if quality else None,
        bandwidth=preparing.bandwidth,
    )
    timings = Timings(recording.decode_seconds, preparing.enhance_seconds, hearing.queue, hearing.inference, total)
    segments = segments_of(hearing.words)
    text = " ".join(segment.text for segment in segments)
    return Transcript(text, segments, hearing.model, hearing.language, facts, timings, recording.warnings)
