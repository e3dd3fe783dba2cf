"""Messages that have arrived on one stream and wait to be taken.

Used at both ends of a connection. How much all inboxes of a connection may hold, and what happens
beyond it, is decided by whoever owns the connection; an inbox only says what it holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# What a waiting message takes beside its bytes: an object's header and a place in the queue. With
# it, a bound on bytes is a bound on the number of messages too, empty ones included.
MESSAGE_OVERHEAD: Final = 64
# A reader with a full inbox never waits; after so many messages the other tasks get their turn.
TAKES_PER_TURN: Final = 64


class Inbox:
    """A queue of undecoded messages with one reader, and an end that may be a failure."""

    __slots__ = ("_ended", "_failure", "_messages", "_on_taken", "_takes", "_waiter", "held")

    def __init__(self, on_taken: Callable[[int], None]) -> None:
        """``on_taken`` is told how many of the bytes :meth:`put` counted have left the queue."""
        self.held = 0  # bytes, overhead included
        self._on_taken = on_taken
        self._messages: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._ended = False
        self._takes = 0

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be put; messages may still wait."""
        return self._ended

    @property
    def failure(self) -> Exception | None:
        """What ended the stream, unless that was its proper end."""
        return self._failure

    def put(self, data: bytes) -> int:
        """Append a message and return how many bytes it counts for."""
        cost = len(data) + MESSAGE_OVERHEAD
        self.held += cost
        self._messages.append(data)
        self._wake()
        return cost

    def end(self, failure: Exception | None = None) -> None:
        """Let the reader come to an end, or to ``failure``, after the messages. The first wins."""
        if not self._ended:
            self._ended = True
            self._failure = failure
            self._wake()

    def abandon(self, failure: Exception) -> None:
        """Drop what waits and let the reader meet ``failure``, whatever end there was.

        Without a failure a series that lacks its last messages would look whole.
        """
        self._ended = True
        self._failure = failure
        self.discard()
        self._wake()

    def discard(self) -> None:
        """Drop the messages that wait."""
        self._messages.clear()
        freed, self.held = self.held, 0
        if freed:
            self._on_taken(freed)

    async def take(self) -> bytes | None:
        """Return the next message, ``None`` after the last. Raises what :meth:`end` was given.

        Cancellation takes nothing.
        """
        self._takes += 1
        if self._takes % TAKES_PER_TURN == 0:
            await asyncio.sleep(0)
        while not self._messages:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            await self._filled()
        data = self._messages.popleft()
        cost = len(data) + MESSAGE_OVERHEAD
        self.held -= cost
        self._on_taken(cost)
        return data

    async def _filled(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("a stream has one reader at a time")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
