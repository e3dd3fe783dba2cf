"""Noticing a peer that begins a frame and does not finish it.

Nothing else bounds the time for which a peer can make a server keep part of a frame: there is no
limit on idle time, because kata-agent is idle for most of its life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class PartialFrame:
    """The frame of a connection of which only a part has arrived, and the time it is given."""

    __slots__ = ("_frames", "_give_up", "_is_reading", "_limit_s", "_loop", "_timer", "since")

    def __init__(
        self, limit_s: float, is_reading: Callable[[], bool], give_up: Callable[[], None]
    ) -> None:
        """``give_up`` is called when a frame was incomplete for ``limit_s`` seconds of reading."""
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._is_reading = is_reading
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._frames = 0
        self.since: float | None = None  # loop time

    def note(self, frames: int, *, inside: bool) -> None:
        """Note that so many frames are complete, and whether the next has begun to arrive."""
        if not inside:
            self.since = None
            return
        if self.since is None or frames != self._frames:
            self._frames = frames
            self.since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def cancel(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The timer is not stopped for each frame that is completed; it looks when it runs out."""
        self._timer = None
        if self.since is None:
            return
        now = self._loop.time()
        if not self._is_reading():
            self.since = now
        remaining = self.since + self._limit_s - now
        if remaining > 0:
            self._timer = self._loop.call_later(remaining, self._look)
        else:
            self._give_up()
