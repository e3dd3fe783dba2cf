"""What a server may hold of requests, of messages and of replies: all peers' and each one's.

No connection waits for another to finish: one that has nothing in flight may always begin, so what
all hold can exceed their common bound by one request for each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class CommonBudget:
    """Of all connections of a server."""

    limit: int  # bytes
    held: int = 0


@dataclass(frozen=True, slots=True)
class CommonBudgets:
    """What all connections share: ``requests`` in flight, with messages; ``replies`` that wait."""

    requests: CommonBudget
    replies: CommonBudget


class Budget:
    """Of one connection."""

    __slots__ = ("_common", "_is_closed", "_limit", "held")

    def __init__(self, limit: int, common: CommonBudget) -> None:
        self.held = 0  # bytes
        self._limit = limit
        self._common = common
        self._is_closed = False

    @property
    def is_spent(self) -> bool:
        """Whether the peer has to wait for something of its own to be done with."""
        held = self.held
        return held >= self._limit or (held > 0 and self._common.held >= self._common.limit)

    def take(self, size: int) -> None:
        """Count ``size`` bytes in, also beyond the limit."""
        self.held += size
        self._common.held += size

    def free(self, size: int) -> None:
        """Count ``size`` bytes out."""
        if not self._is_closed:
            self.held -= size
            self._common.held -= size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Count ``size`` bytes in until the end of the block."""
        self.take(size)
        try:
            yield
        finally:
            self.free(size)

    def close(self) -> None:
        """Count out whatever is left, for good."""
        self.free(self.held)
        self._is_closed = True
