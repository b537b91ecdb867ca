"""Sends webhooks when they are due: one task for a server, any number of servers on one database.

due ──choose (room, hosts)──▶ claim ──▶ send ──▶ after ──▶ record
 ▲                                                           │
 └────── woken by a new one, a place, the next due time ─────┘
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import httpcore
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from nautilus.errors import AddressRefusedError, FetchError, FetchRefusedError, StorageError
from nautilus.jobs import deliveries
from nautilus.jobs.deliveries import Delivery
from nautilus.jobs.webhook import Answer, Dead, Fault, Outcome, WebhookSettings, after, headers, is_failing
from nautilus.observe import Count
from nautilus.outside.address import parse
from nautilus.outside.door import Outside, retry_after
from nautilus.traces.trace import OFF, Attributes, Tracer

log = structlog.get_logger(__name__)

SPARE: Final = 45.0
"""Seconds that a claim lasts longer than an attempt may take."""
READ_AT_MOST: Final = 1024
"""Bytes of an answer's body, which nobody looks at: it is read so that the receiver can finish."""
READ_SECONDS: Final = 1.0
CHANCE: Final = random.SystemRandom().random
MOST_FAILING: Final = 10_000
"""Hosts that are remembered to fail."""


class Transactions(Protocol):
    """What a courier needs of a database."""

    def begin(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction. Raises StorageError where the database is away."""


@dataclass(frozen=True, slots=True)
class Told:
    """Where it is told what becomes of webhooks."""

    counts: Mapping[str, Count] = field(default_factory=dict)
    """By outcome."""
    traces: Tracer = OFF


class Courier:
    """Sends webhooks until it is cancelled. What it was sending then is sent again, by any server, within a minute."""

    def __init__(
        self,
        database: Transactions,
        outside: Outside,
        settings: WebhookSettings,
        told: Told | None = None,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = CHANCE,
    ) -> None:
        self._database = database
        self._outside = outside
        self._settings = settings
        self._told = told or Told()
        self._now = now
        self._chance = chance
        self._wake = asyncio.Event()
        self._sending: Counter[str] = Counter()
        self._failing: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Courier {self._sending.total()} on their way, {len(self._failing)} hosts failing>"

    def wake(self) -> None:
        """Look for due webhooks at once: call it after the commit of a new one."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, until cancelled. A database that is away is asked again."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                try:
                    claimed, wait = await self._claim()
                except StorageError as error:
                    log.warning("webhooks wait for the database", error=type(error).__name__)
                    claimed, wait = (), self._settings.poll_seconds
                for delivery in claimed:
                    self._sending[delivery.origin] += 1
                    group.create_task(self._deliver(delivery), name=f"webhook {delivery.id}")
                if not claimed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()

    async def _claim(self) -> tuple[Sequence[Delivery], float]:
        """Take what may be sent now. Returns it, and the seconds until there may be more."""
        room, now = self._settings.at_once - self._sending.total(), self._now()
        if room <= 0:
            return (), self._settings.poll_seconds
        async with self._database.begin() as connection:
            full = full_origins(self._sending, self._failing, self._settings)
            found = await deliveries.due(connection, now, full, room)
            if ids := choose(found, self._sending, self._failing, self._settings):
                until = now + self._settings.timeout + SPARE
                return await deliveries.claim(connection, ids, now, until), 0.0
            soon = await deliveries.next_due(connection, now)
        wait = self._settings.poll_seconds
        return (), wait if soon is None else min(wait, soon - now)

    async def _deliver(self, delivery: Delivery) -> None:
        """Make one attempt and write down what became of it."""
        about: Attributes = {"nautilus.webhook.id": delivery.id, "nautilus.webhook.attempt": delivery.attempts}
        try:
            with self._told.traces.follow(delivery.trace, "webhook", about, kind="consumer") as trace:
                outcome = await self._tried(delivery)
                trace.note({"nautilus.webhook.outcome": _name(outcome)})
            async with self._database.begin() as connection:
                await deliveries.record(connection, delivery, outcome, self._now())
        except Exception:
            # Whatever it was, the row is due again when its claim ends, and the others must not suffer.
            log.exception("webhook was not recorded", id=delivery.id, attempt=delivery.attempts)
        finally:
            self._sending[delivery.origin] -= 1
            self._sending += Counter()  # forget hosts without any
            self._wake.set()

    async def _tried(self, delivery: Delivery) -> Outcome:
        result = await self._send(delivery)
        self._remember(delivery.origin, failing=is_failing(result))
        outcome = after(delivery.attempts, result, self._now(), self._chance())
        self._told.counts.get(_name(outcome), Count()).add()
        tell = log.warning if isinstance(outcome, Dead) else log.info
        tell("webhook", id=delivery.id, attempt=delivery.attempts, outcome=_name(outcome))
        return outcome

    async def _send(self, delivery: Delivery) -> Answer | Fault:
        secrets = self._settings.secrets
        if not secrets:
            return Fault("NAUTILUS_WEBHOOKS__SECRETS is empty.")
        lines = headers(secrets, delivery.id, int(self._now()), delivery.body)
        answer: Answer | None = None
        try:
            url = parse(delivery.url, self._outside.limits)
            async with (
                asyncio.timeout(self._settings.timeout),
                self._outside.request("POST", url, lines, delivery.body.encode()) as response,
            ):
                answer = Answer(response.status, retry_after(response, self._now()))
                await _let_finish(response)
        except AddressRefusedError as refused:
            return Fault(str(refused), final=True)
        except (FetchError, FetchRefusedError) as failed:
            return answer or Fault(str(failed))
        except TimeoutError:
            return answer or Fault(f"The receiver did not answer within {self._settings.timeout:g} s.")
        return answer

    def _remember(self, origin: str, *, failing: bool) -> None:
        self._failing.pop(origin, None)
        if failing:
            self._failing[origin] = None
            if len(self._failing) > MOST_FAILING:
                del self._failing[next(iter(self._failing))]


def choose(
    found: Sequence[Delivery], sending: Mapping[str, int], failing: Collection[str], settings: WebhookSettings
) -> list[str]:
    """Return the ids of those that may be sent now, in order: so many to a host, one to a failing host."""
    chosen, busy = [], Counter(sending)
    for delivery in found:
        if busy[delivery.origin] < _room(delivery.origin, failing, settings):
            busy[delivery.origin] += 1
            chosen.append(delivery.id)
    return chosen


def full_origins(sending: Mapping[str, int], failing: Collection[str], settings: WebhookSettings) -> list[str]:
    """Return the origins that may not be sent any more for now."""
    return [origin for origin, count in sending.items() if count >= _room(origin, failing, settings)]


def _name(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def _room(origin: str, failing: Collection[str], settings: WebhookSettings) -> int:
    return 1 if origin in failing else settings.at_once_per_host


async def _let_finish(response: httpcore.Response) -> None:
    """Read a little of an answer's body, for a moment: how the attempt went is known already."""
    size = 0
    with suppress(TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in response.aiter_stream():
                size += len(chunk)
                if size >= READ_AT_MOST:
                    return
