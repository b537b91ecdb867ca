"""How far a transfer is, as numbers and in words."""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Takes the bytes that are here, and how many there will be."""

EVERY: Final = 0.5
"""Seconds between two texts."""
MEGABYTE: Final = 10**6


def unheard(here: int, total: int) -> None:
    """Take progress and tell nobody."""
    del here, total


def in_words(name: str, tell: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress that tells texts such as "fetching owner/model: 312 of 640 MB", not too many of them."""
    told, at = "", -EVERY

    def progress(here: int, total: int) -> None:
        nonlocal told, at
        text = f"fetching {name}: {here // MEGABYTE} of {max(1, total // MEGABYTE)} MB"
        if text != told and (now() - at >= EVERY or here == total):
            told, at = text, now()
            tell(text)

    return progress
