"""The windows of one recording at the model, and the words that come back, in order.

Words of a window's last second may be heard better by the next window: they are held until then. What is settled, and
where hearing stands, is told after each window (`Piece`); a hearing that begins at such a `Standing` goes on as if it
had never stopped.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from nautilus.audio.chunk import Window, WindowLimits, in_recording, join
from nautilus.runtime.ears import really_spoken
from nautilus.runtime.lane import Heard, Lane
from nautilus.types import USUAL, Claim, Level, Options, Word


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds on one recording."""

    min_seconds: float = 0.1
    """Shorter recordings are refused."""
    max_seconds: float = 6 * 3600.0
    """Longer recordings are refused."""
    windows_ahead: int = 8
    """Windows of one recording in the queue at once."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with a recording."""

    model: str
    options: Options = field(default_factory=Options)
    level: Level = "auto"
    channel: int | None = None
    """Which channel to hear, from 0; None mixes them."""
    claim: Claim = USUAL
    """Who goes first."""
    bandwidth: bool = True
    """Whether the bandwidth of the recording is wanted, which cleaning does not need."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the hearing of a recording stands between two windows."""

    windows: int = 0
    """Windows whose answers are behind."""
    held: tuple[Word, ...] = ()
    """Words that the next window may hear better, in recording time."""
    language: str | None = None
    queue: float = 0.0
    inference: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """What one window added."""

    words: tuple[Word, ...]
    """Words that will not change any more, in recording time; maybe none."""
    seconds_done: float
    """How much of the recording lies behind."""
    seconds_total: float | None
    """How long the recording says it is."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier hearing of the same recording, with the same task, came to."""

    standing: Standing
    words: tuple[Word, ...]
    """All settled words up to there."""


MAY_CHANGE = WindowLimits().overlap + 1.0
"""Seconds at a window's end whose words the next window may hear better."""

Emit = Callable[[Piece], Awaitable[None]]
"""Told of each piece as windows finish."""


class Hearing:
    """The windows of one recording at the model, and the words that came back, in order."""

    def __init__(
        self, lane: Lane, task: Task, emit: Emit, limits: AudioLimits, threads: Executor, earlier: Earlier | None = None
    ) -> None:
        standing = earlier.standing if earlier else Standing(language=task.options.language)
        self.words: list[Word] = list(earlier.words) if earlier else []
        """Words that will not change any more."""
        self.language = standing.language
        self.queue = standing.queue
        self.inference = standing.inference
        self.model = lane.info.name
        self.total: float | None = None
        """Seconds that the recording says it has."""
        self._lane = lane
        self._task = task
        self._emit = emit
        self._limits = limits
        self._threads = threads
        self._admitted = False
        self._ahead: deque[tuple[Window, asyncio.Task[Heard]]] = deque()
        self._behind = standing.windows
        self._to_skip = standing.windows
        self._held = list(standing.held)  # words in the overlap of the last window: the next one may hear them better

    async def hear(self, window: Window, tasks: asyncio.TaskGroup) -> None:
        """Send a window to the model, if it was not heard earlier; waits only while too many are ahead."""
        if self._to_skip:
            self._to_skip -= 1
            return
        answer = self._lane.submit(window.audio, self._task.options, self._task.claim, admitted=self._admitted)
        self._admitted = True  # once begun, a recording is never refused for want of room
        self._ahead.append((window, tasks.create_task(answer)))
        while self._ahead and (len(self._ahead) >= self._limits.windows_ahead or self._ahead[0][1].done()):
            await self._take()

    async def finish(self) -> None:
        """Wait for every answer."""
        while self._ahead:
            await self._take()
        held, self._held = self._held, []
        if held:
            await self._settle(held, held[-1].end)

    async def _take(self) -> None:
        window, answer = self._ahead.popleft()
        heard = await answer
        self._behind += 1
        self.queue += heard.queue
        self.inference += heard.inference
        self.language = heard.hypothesis.language or self.language
        recorded = window.audio if window.recorded is None else window.recorded  # the detector hears no cleaning
        spoken = await really_spoken(heard.hypothesis.words, recorded, self._threads)
        words = [in_recording(word, window) for word in spoken]
        joined = join(self._held, words, window.seam) if window.seam else [*self._held, *words]
        open_from = window.end - MAY_CHANGE
        settled = [word for word in joined if word.end <= open_from]
        self._held = joined[len(settled) :]
        await self._settle(settled, open_from)

    async def _settle(self, words: list[Word], done: float) -> None:
        self.words += words
        standing = Standing(self._behind, tuple(self._held), self.language, self.queue, self.inference)
        await self._emit(Piece(tuple(words), max(0.0, done), self.total, standing))
