"""How many of something one caller has at once: counted here; `in_redis` counts for several servers together."""

from collections import Counter
from typing import Protocol


class Places(Protocol):
    """Counts places by what they are for."""

    async def take(self, name: str, most: int, /) -> str | None:
        """Return a place, or None where all are taken."""
        ...

    async def give(self, name: str, place: str, /) -> None:
        """Give a place back."""
        ...


class MemoryPlaces:
    """Places of this server."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    async def take(self, name: str, most: int, /) -> str | None:
        """Return a place, or None where all are taken."""
        if self._taken[name] >= most:
            return None
        self._taken[name] += 1
        return "taken"

    async def give(self, name: str, place: str, /) -> None:
        """Give a place back."""
        del place
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
