"""What waits for one engine: in which order it is heard, what is heard together, and what is refused.

Refused early rather than late: by how much audio would be heard before, and how fast the engine has been of late.
"""

import asyncio
import time
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from nautilus.errors import OverloadedError
from nautilus.runtime.lane import Heard
from nautilus.traces.trace import Trace
from nautilus.turns import FairOrder, Place, is_full
from nautilus.types import SAMPLE_RATE, Claim, Options, Priority, Waveform


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds on one batch and on the queue before it."""

    workers: int = 0
    """Threads that run the model at once; 0: one per core on a CPU, one on a GPU."""
    max_items: int = 0
    """Waveforms in a batch; 0: what a short calibration at load finds fastest."""
    max_seconds: float = 480.0
    """Audio in a batch after padding: the longest item times the number of items."""
    max_padding: float = -1.0
    """Share of a batch's padded seconds that may be padding; below 0: little on a CPU, more on a GPU, half for a model
    that leaves padding out."""
    max_waiting: int = 512
    """Windows in the queue beyond which new recordings are refused, not queued; of tenants, who has its share there."""
    max_wait: float = 30.0
    """Seconds that a new recording may have to wait for the model, as it looks; those that would wait longer are
    refused. Jobs are not: they wait."""
    reserve_seconds: float = 1.0
    """For so long after a request, one worker of several is kept free of jobs, and batches of others are short."""
    max_streams: int = 0
    """Live streams of a model at once, whatever they take; 0: as many as real time allows, measured at load."""
    stream_load: float = 0.7
    """Share of the workers' time that live streams may take, as measured at load; more streams are refused."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's place in the queue."""

    claim: Claim
    place: Place
    audio: Waveform = field(repr=False)
    options: Options
    submitted: float
    """By `time.monotonic`, in seconds."""
    result: asyncio.Future[Heard]
    trace: Trace | None = None
    """Where it is told how the window waited and was heard; None where nobody wants to know."""

    @property
    def seconds(self) -> float:
        """Of audio."""
        return len(self.audio) / SAMPLE_RATE


class Queue:
    """Tickets, in fair order."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._order = FairOrder()
        self._tickets: list[Ticket] = []
        self._count: Counter[Claim] = Counter()
        self._seconds: defaultdict[Claim, float] = defaultdict(float)
        """Of audio that waits; none for claims of which nothing does."""
        self._asked: dict[Claim, float] = {}
        """When something urgent was last asked for, by loop time; of late only."""

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, audio: Waveform, options: Options, claim: Claim, trace: Trace | None = None) -> Ticket:
        """Let something wait."""
        loop = asyncio.get_running_loop()
        seconds = len(audio) / SAMPLE_RATE
        place = self._order.join(claim, seconds)
        ticket = Ticket(claim, place, audio, options, time.monotonic(), loop.create_future(), trace)
        insort(self._tickets, ticket, key=lambda one: one.place)
        self._count[claim] += 1
        self._seconds[claim] += seconds
        if claim.priority < Priority.JOB:
            self._asked[claim] = loop.time()
        return ticket

    def check(self, claim: Claim, rate: float) -> None:
        """Raise OverloadedError if there is no room for something new, or if it would wait for too long.

        `rate` is how many seconds of audio are heard in a second; 0 where that is not known yet.
        """
        wait = seconds_before(self._seconds, claim) / rate if rate else 0.0
        before: Counter[str] = Counter()
        for other, count in self._count.items():
            if other.priority <= claim.priority:
                before[other.owner] += count
        if is_full(before, claim.owner, self._limits.max_waiting):
            raise OverloadedError(retry_after=max(1.0, wait))
        if claim.priority < Priority.JOB and wait > self._limits.max_wait:
            raise OverloadedError(retry_after=max(1.0, wait - self._limits.max_wait))

    def take(self, share: int, turn: float, *, spare: bool = False) -> list[Ticket]:
        """Return the next batch, of at most `share` tickets; nothing if nothing waits that may be taken.

        While others ask as well, it has at most `turn` seconds of audio, or one window: they wait for no more.
        A `spare` worker takes no jobs while anything else is asked for.
        """
        self._forget_gone()
        if not self._tickets:
            return []
        first = self._tickets[0]
        others = self._others(first.claim)
        if spare and others and first.claim.priority == Priority.JOB:
            return []
        self._order.begin(first.place)
        most = min(self._limits.max_seconds, turn) if others else self._limits.max_seconds
        batch = together(self._tickets, self._limits, share, most)
        self._remove(batch)
        return batch

    def empty(self) -> list[Ticket]:
        """Return all that waits, and let nothing wait any more."""
        tickets = self._tickets
        self._remove(tickets)
        return tickets

    def _others(self, claim: Claim) -> bool:
        """Return whether others have asked for something urgent of late; jobs are not urgent."""
        since = asyncio.get_running_loop().time() - self._limits.reserve_seconds
        self._asked = {one: at for one, at in self._asked.items() if at > since}
        return any(one != claim for one in self._asked)

    def _forget_gone(self) -> None:
        """Drop tickets whose caller has gone."""
        if gone := [ticket for ticket in self._tickets if ticket.result.done()]:
            for ticket in gone:
                self._order.leave(ticket.claim, ticket.seconds)
            self._remove(gone)

    def _remove(self, tickets: list[Ticket]) -> None:
        out = set(map(id, tickets))
        self._tickets = [ticket for ticket in self._tickets if id(ticket) not in out]
        for ticket in tickets:
            self._count[ticket.claim] -= 1
            self._seconds[ticket.claim] -= ticket.seconds
            if not self._count[ticket.claim]:
                del self._count[ticket.claim], self._seconds[ticket.claim]
        if not self._tickets:
            self._order.rest()


def seconds_before(waiting: Mapping[Claim, float], claim: Claim) -> float:
    """Return how much of the audio that waits is heard before something new: all that is more urgent, and a fair part.

    That part is what its owner has waiting, times the owners who take turns; at most all there is.
    """
    above = sum(seconds for other, seconds in waiting.items() if other.priority < claim.priority)
    alike = {other.owner: seconds for other, seconds in waiting.items() if other.priority == claim.priority}
    owners = len({claim.owner, *alike})
    return above + min(sum(alike.values()), owners * alike.get(claim.owner, 0.0))


def together(tickets: list[Ticket], limits: BatchLimits, share: int, most_seconds: float) -> list[Ticket]:
    """Return the first ticket, however long it is, and those that are heard with it: at most `share`.

    They have its priority and options, those of the most similar length first, as long as the padded seconds stay
    within `most_seconds` and the padding within `limits`.
    """
    first = tickets[0]
    length = len(first.audio)
    others = [t for t in tickets[1:] if t.claim.priority == first.claim.priority and t.options == first.options]
    others.sort(key=lambda ticket: abs(len(ticket.audio) - length))
    batch = [first]
    longest = total = length
    for ticket in others:
        if len(batch) >= min(share, limits.max_items):
            break
        wider = max(longest, len(ticket.audio))
        padded = wider * (len(batch) + 1)
        fuller = total + len(ticket.audio)
        if padded > most_seconds * SAMPLE_RATE or padded - fuller > limits.max_padding * padded:
            break
        batch.append(ticket)
        longest, total = wider, fuller
    return batch
