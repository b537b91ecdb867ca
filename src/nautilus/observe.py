"""Logs as JSON lines or as coloured text, and what rooms count. Never audio, transcripts or keys. Imports no room.

Rooms add to plain numbers, which costs less than a microsecond; what they are called outside, `web/metrics` knows.
"""

import asyncio
import logging
import sys
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

LogFormat = Literal["auto", "json", "text"]
CHATTY: Final = ("aiosqlite", "alembic", "dbos")
"""Libraries that tell at the levels of information and debugging what nobody asks for, such as every row."""


def configure_logging(level: str, style: LogFormat) -> None:
    """Send the server's and its libraries' logs, in one format, to standard error.

    The server's own lines, one for each request, go there directly; `logging` would cost several times as much.
    """
    as_text = style == "text" or (style == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    final: list[structlog.types.Processor] = (
        [
            structlog.processors.format_exc_info,
            printable,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
        if as_text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=Lines,
        cache_logger_on_first_use=True,
    )


def printable(_logger: object, _method: str, entry: structlog.types.EventDict) -> structlog.types.EventDict:
    """Show control characters as what they are: a path or a name must neither end a line nor speak to a terminal."""
    for name, value in entry.items():
        if isinstance(value, str) and not value.isprintable():
            keep = "\n" if name == "exception" else ""
            entry[name] = "".join(
                one if one.isprintable() or one in keep else one.encode("unicode_escape").decode() for one in value
            )
    return entry


class Lines(structlog.WriteLogger):
    """Writes lines to standard error, for one module."""

    def __init__(self, name: str = "nautilus") -> None:
        super().__init__(sys.stderr)
        self.name = name


SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHORT_SECONDS: Final = (0.001, 0.0025, *SECONDS[:11])
LATE_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


class Count:
    """A number that only grows."""

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Let it grow."""
        self.value += amount


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A value that stands for others, and the trace that it is from."""

    trace: str
    value: float
    at: float
    """Seconds since 1970."""


class Histogram:
    """How many values were at most each bound, how many there were, and their sum."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Of the values above the bound before; the last is of those above all."""
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        """The last traced value of each of `counts`."""

    def add(self, value: float, trace: str | None = None) -> None:
        """Take a value in; `trace` is the id of the one that it is from, if that is written down."""
        place = bisect_left(self.bounds, value)
        self.counts[place] += 1
        self.sum += value
        if trace is not None:
            self.exemplars[place] = Exemplar(trace, value, time.time())


@dataclass(frozen=True, slots=True)
class LaneMeters:
    """What one model's lane counts, since it was loaded."""

    queue: Histogram = field(default_factory=lambda: Histogram(SHORT_SECONDS))
    """Seconds that windows of recordings waited for a batch."""
    batch_items: Histogram = field(default_factory=lambda: Histogram(SIZES))
    batch_seconds: Histogram = field(default_factory=lambda: Histogram(SHORT_SECONDS))
    audio: Count = field(default_factory=Count)
    """Seconds of audio in batches."""
    padding: Count = field(default_factory=Count)
    """Seconds of padding in batches."""
    step_streams: Histogram = field(default_factory=lambda: Histogram(SIZES))
    step_seconds: Histogram = field(default_factory=lambda: Histogram(SHORT_SECONDS))
    failures: Count = field(default_factory=Count)
    """Batches and steps in which the model raised."""
    restarts: Count = field(default_factory=Count)
    """Of the model's process."""


@dataclass(frozen=True, slots=True)
class StreamMeters:
    """What live conversations count."""

    audio: Count = field(default_factory=Count)
    """Seconds of sound received."""
    utterances: Count = field(default_factory=Count)
    lag: Histogram = field(default_factory=Histogram)
    """Seconds of sound that had come and was not heard yet, at each partial and final."""


def _counts(*names: str) -> dict[str, Count]:
    return {name: Count() for name in names}


@dataclass(slots=True)
class JobMeters:
    """What this server counts of jobs, and what it last saw of those of all servers."""

    waiting: int = 0
    running: int = 0
    accepted: Count = field(default_factory=Count)
    ended: dict[str, Count] = field(default_factory=lambda: _counts("completed", "failed", "cancelled"))
    """By status."""
    files: dict[str, Count] = field(default_factory=lambda: _counts("completed", "failed"))
    """By status."""
    kept: dict[str, Count] = field(default_factory=lambda: _counts("hit", "miss"))
    """Transcripts that were looked for among those of earlier jobs."""
    webhooks: dict[str, Count] = field(default_factory=lambda: _counts("delivered", "retry", "dead"))
    """Attempts, by what became of them."""


@dataclass(frozen=True, slots=True)
class Meters:
    """What a server counts, all models together."""

    recordings: Count = field(default_factory=Count)
    """Seconds of recordings transcribed."""
    streams: StreamMeters = field(default_factory=StreamMeters)
    jobs: JobMeters = field(default_factory=JobMeters)
    loop_lag: Histogram = field(default_factory=lambda: Histogram(LATE_SECONDS))
    """Seconds by which the event loop came late."""


async def watch_loop(lag: Histogram, every: float = 0.25) -> None:
    """Note how late the event loop wakes a sleeper, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        lag.add(max(0.0, loop.time() - due))
