"""What a recording costs its caller: as much of it as was heard, also when the caller has gone meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from nautilus.assembly import Core
from nautilus.hearing import Piece
from nautilus.web.deps import caller_of


class Bill:
    """Seconds of a recording that were heard so far."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def note(self, piece: Piece) -> None:
        """Take note of what one more window added."""
        self.seconds = max(self.seconds, piece.seconds_done)


@contextmanager
def billed(request: Request, core: Core) -> Iterator[Bill]:
    """Charge a caller at the end of the block."""
    charge, bill = core.limiter.charge_to(caller_of(request)), Bill()
    try:
        yield bill
    finally:
        charge(bill.seconds)
