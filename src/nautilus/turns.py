"""Who goes first when many wait for what few can have, and who is refused when there is no room.

By priority first; within one, every owner gets an equal share, however much any of them asks for (start-time fair
queueing: Goyal, Vin, Cheng, SIGCOMM 1996). A thing that waits is given a start tag, the work that its owner has asked
for before it, counted from the tag of what was begun last; the smallest tag goes first. So one who asks seldom waits
for what is being done, not for what another has piled up.
"""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from nautilus.errors import OverloadedError
from nautilus.types import Claim, Priority


class Place(NamedTuple):
    """Where something stands in line; the smaller goes first."""

    priority: Priority
    start: float
    """Its start tag, in the unit of the costs."""
    number: int
    """By arrival."""


class FairOrder:
    """Gives out places in one line."""

    def __init__(self) -> None:
        self._begun: dict[Priority, float] = {}
        """The start tag of what was begun last."""
        self._asked: dict[Claim, float] = {}
        """Where the next tag of an owner starts, if it is later."""
        self._numbers = count()

    def join(self, claim: Claim, cost: float) -> Place:
        """Return the place of what its owner asks for now; `cost` in any unit, always the same."""
        start = max(self._begun.get(claim.priority, 0.0), self._asked.get(claim, 0.0))
        self._asked[claim] = start + cost
        return Place(claim.priority, start, next(self._numbers))

    def leave(self, claim: Claim, cost: float) -> None:
        """Take back what was asked for and will not be begun."""
        if claim in self._asked:
            self._asked[claim] -= cost

    def begin(self, place: Place) -> None:
        """Note what is begun."""
        self._begun[place.priority] = max(place.start, self._begun.get(place.priority, 0.0))

    def rest(self) -> None:
        """Nobody waits: forget who asked for how much."""
        self._begun.clear()
        self._asked.clear()


class Turns:
    """So many at once; the others wait in fair order, each turn at the same cost."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._order = FairOrder()
        self._waiting: list[_Waiter] = []

    def __repr__(self) -> str:
        return f"<Turns: {self._free} free, {len(self._waiting)} waiting>"

    @asynccontextmanager
    async def taken(self, claim: Claim) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the length of the block."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(claim)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, claim: Claim) -> None:
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(self._order.join(claim, 1.0), claim, turn)
        insort(self._waiting, waiter, key=lambda one: one.place)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had its turn already
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            waiter = self._waiting.pop(0)
            if not waiter.turn.done():
                self._order.begin(waiter.place)
                waiter.turn.set_result(None)
                return
            self._order.leave(waiter.claim, 1.0)  # cancelled
        self._free += 1
        self._order.rest()


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    place: Place
    claim: Claim
    turn: asyncio.Future[None]


class Room:
    """So many at once, and the others are refused: first of all those of an owner who has an equal share already.

    Who has less is let in even then, so that nobody who fills the room keeps another out.
    """

    def __init__(self, most: int, retry_after: float) -> None:
        self._most = most
        self._retry_after = retry_after
        self._inside: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Room: {len(self)} inside of {self._most}>"

    def __len__(self) -> int:
        return self._inside.total()

    @contextmanager
    def held(self, owner: str) -> Iterator[None]:
        """Be inside for the length of the block. Raises OverloadedError."""
        if is_full(self._inside, owner, self._most):
            raise OverloadedError(self._retry_after)
        self._inside[owner] += 1
        try:
            yield
        finally:
            self._inside[owner] -= 1
            if not self._inside[owner]:
                del self._inside[owner]


def is_full(inside: Counter[str], owner: str, most: int) -> bool:
    """Return whether there is no room for one more of this owner: there are `most`, and it has its share of them."""
    owners = len(inside) + (owner not in inside)
    return inside.total() >= most and inside[owner] * owners >= most
