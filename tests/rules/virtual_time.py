"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio


async def settle() -> None:
    """Let every task run until all of them wait. Enough turns for the chains in these tests."""
    for _ in range(50):
        await asyncio.sleep(0)


class VirtualTime:
    """A clock and a sleep that agree with each other."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now
        self.sleeps: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        woken = asyncio.get_running_loop().create_future()
        sleeper = (self.now + seconds, woken)
        self._sleepers.append(sleeper)
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    async def advance(self, seconds: float) -> None:
        """Move on in steps, waking sleepers in the order of their times."""
        end = self.now + seconds
        await settle()
        while due := sorted(at for at, _ in self._sleepers if at <= end):
            self.now = max(self.now, due[0])
            for at, woken in list(self._sleepers):
                if at <= self.now and not woken.done():
                    woken.set_result(None)
            await settle()
        self.now = end
        await settle()
