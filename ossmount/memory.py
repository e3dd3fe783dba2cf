"""The byte budget of one mount. Nothing that holds file data exists outside of it.

The total is cut once, in fixed shares, so that a writer can never starve a reader:

* requests: one FUSE request buffer and one copy for each worker, and the network buffers;
* reads: read-ahead blocks, which can be dropped and fetched again;
* parts: parts of streaming uploads, which always drain or fail within their deadline;
* scratch: whole files changed at random, which stay until they are closed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Shares:
    """How the total is divided, in bytes, and what follows from it."""

    workers: int
    connections: int
    reads: int
    parts: int
    scratch: int

    @classmethod
    def of(cls, total: int) -> Shares:
        """Divide ``total`` bytes: up to a quarter for requests, the rest 3 : 2 : 3."""
        workers = max(4, min(24, total // (12 * MIB)))
        connections = max(4, min(24, total // (16 * MIB)))
        requests = workers * 2 * MIB + connections * MIB // 4
        left = max(total // 2, total - requests)
        return cls(
            workers=workers,
            connections=connections,
            reads=left * 3 // 8,
            parts=left * 2 // 8,
            scratch=left * 3 // 8,
        )


class MemoryBudget:
    """A counter of bytes with waiting. Not a pool: buffers are ordinary objects of the caller."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.peak = 0
        self._changed = asyncio.Event()

    def try_acquire(self, size: int) -> bool:
        """Take ``size`` bytes if they are free."""
        if self.used + size > self.total:
            return False
        self.used += size
        self.peak = max(self.peak, self.used)
        return True

    async def acquire(self, size: int) -> None:
        """Take ``size`` bytes, waiting for releases. Cancellation takes nothing.

        The caller bounds the wait. Raises ``ValueError`` for more than the whole budget, which
        would wait for ever.
        """
        if size > self.total:
            raise ValueError(f"{size} bytes asked of a budget of {self.total}")
        while not self.try_acquire(size):
            await self.changed()

    async def changed(self) -> None:
        """Return after the next release (or :meth:`poke`)."""
        self._changed.clear()
        await self._changed.wait()

    def poke(self) -> None:
        """Wake waiters although nothing was released: something became reclaimable."""
        self._changed.set()

    def release(self, size: int) -> None:
        """Give ``size`` bytes back."""
        self.used -= size
        self._changed.set()
