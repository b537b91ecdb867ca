"""Recordings with bytes changed: the same seed and number give the same bytes anywhere."""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Final, TypeAlias

import numpy as np

from tests.audio.media import RECORDERS, encode, float_wav, real_clips, record, sphere, voice, wav
from tests.audio.test_decode import FORMATS

Mutation: TypeAlias = Callable[[bytearray, Random, Sequence[bytes]], None]

SECONDS: Final = 0.4
HEAD: Final = 512
"""Bytes in which most containers say what they are."""
MOST_BYTES: Final = 256 * 1024
"""Of a real recording's beginning."""
EDGES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
"""Numbers at which counts overflow."""


@cache
def recordings() -> tuple[bytes, ...]:
    """Return one short recording in every format that is promised, and as browsers record."""
    made = [
        encode(np.stack([voice(SECONDS, rate)] * channels), rate, container, codec, options)
        for container, codec, rate, channels, options in FORMATS
    ]
    made += [wav(voice(SECONDS)), float_wav(voice(SECONDS)), sphere(voice(SECONDS))]
    made += [record(voice(1.0), recorder) for recorder in RECORDERS.values()]
    return tuple(made)


@cache
def real_recordings() -> tuple[bytes, ...]:
    """Return the beginnings of real files; none where the folder of real speech is missing."""
    return tuple(clip.path.read_bytes()[:MOST_BYTES] for clip in real_clips())


def mutated(seed: int, number: int, sources: Sequence[bytes]) -> bytes:
    """Return one of the sources, changed in one to four ways."""
    chance = Random(f"{seed} {number}")  # noqa: S311 - no secret
    data = bytearray(chance.choice(sources))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        chance.choice(MUTATIONS)(data, chance, sources)
    return bytes(data)


def _place(data: bytearray, chance: Random) -> int:
    """Choose a byte, half of the time one of the head."""
    size = len(data) if chance.random() < 0.5 else min(HEAD, len(data))
    return chance.randrange(size) if size else 0


def _flip(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    for _time in range(chance.choice((1, 1, 4, 16, 64))):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _scribble(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    place = _place(data, chance)
    data[place : place + 32] = chance.randbytes(chance.randint(1, 32))


def _cut_end(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    del data[_place(data, chance) :]


def _cut_middle(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    place = _place(data, chance)
    del data[place : place + chance.randint(1, 4096)]


def _repeat(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    place = _place(data, chance)
    piece = data[place : place + chance.randint(1, 4096)]
    data[place:place] = piece * chance.choice((1, 2, 50))


def _splice(data: bytearray, chance: Random, sources: Sequence[bytes]) -> None:
    other = chance.choice(sources)
    data[_place(data, chance) :] = other[chance.randrange(len(other) + 1) :]


def _lie(data: bytearray, chance: Random, _: Sequence[bytes]) -> None:
    """Put a number where a length, a rate, a count of channels or a duration may be."""
    form = chance.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    value = chance.choice((*EDGES, chance.getrandbits(64))) & ((1 << 8 * size) - 1)
    place = _place(data, chance)
    data[place : place + size] = struct.pack(form, value)


MUTATIONS: Final[tuple[Mutation, ...]] = (_flip, _scribble, _cut_end, _cut_middle, _repeat, _splice, _lie, _lie)
