"""One computation shared by everybody who asks for it while it runs.

The task is owned by its waiters together: it goes on as long as one of them is left and is
cancelled, and seen to its end, by the last one that gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A running computation and the number of those who wait for it."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        # Not in a TaskGroup: no waiter's scope may own what outlives that waiter. The waiters own
        # it together; wait() sees it to its end.
        self._task = asyncio.create_task(start())
        # A failure that nobody is left to hear is no news to anybody.
        self._task.add_done_callback(_retrieve)
        self._waiters = 0
        self._abandoned = False

    @property
    def joinable(self) -> bool:
        """Whether a newcomer may still wait for this result."""
        return not self._abandoned and not self._task.done()

    @property
    def waiters(self) -> int:
        """How many wait for the result."""
        return self._waiters

    async def wait(self) -> T:
        """Return or raise what the computation does.

        Cancelling one waiter leaves the computation to the others. Cancelling the last one cancels
        it, and returns when it has ended.
        """
        self._waiters += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiters -= 1
            if self._waiters == 0 and not self._task.done():
                self._abandoned = True
                self._task.cancel()
                await asyncio.wait([self._task])


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
