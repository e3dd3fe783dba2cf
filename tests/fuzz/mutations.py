"""Deterministic damage to recorded bytes, shaped after what attackers and bugs do to lengths."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

INTERESTING: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
MAX_CHANGES: Final = 4

Mutator = Callable[[bytearray, random.Random], None]


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random) -> None:
    """Overwrite 1, 2 or 4 bytes with a number that lengths and counts are afraid of."""
    size = rng.choice((1, 2, 4))
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(INTERESTING) + rng.choice((-1, 0, 0, 1))
    data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 65)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randrange(1, 65)]


def _move(data: bytearray, rng: random.Random) -> None:
    """Copy a piece over another place, so that one structure is read as another."""
    size = rng.randrange(1, 65)
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    data[target : target + size] = data[source : source + size]


MUTATORS: Final[Sequence[Mutator]] = (_flip, _flip, _number, _number, _cut, _remove, _repeat, _move)


def mutations(base: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield damaged copies without end; equal generators give equal ones."""
    while True:
        data = bytearray(base)
        for _ in range(rng.randrange(1, MAX_CHANGES + 1)):
            if data:
                rng.choice(MUTATORS)(data, rng)
        yield bytes(data)
