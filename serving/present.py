"""Which instance of a part answers now, and who is still being answered by an earlier one.

A part fails and is opened again, or is replaced when the configuration is read anew; who calls it
keeps calling the same :class:`Present`. Opening and closing belong to :mod:`serving.supervisor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from serving.errors import PartUnavailableError

T = TypeVar("T")
R = TypeVar("R")
# Opening a part takes some 10 ms; kata-agent waits 50 s for the hub, the watchdog a third of its
# time for us.
WAIT_SECONDS: Final = 5.0


class Tenure(Generic[T]):
    """The time in which one instance of a part answers calls."""

    def __init__(self, part: str, value: T) -> None:
        self.value = value
        self._part = part
        self._calls: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()

    async def run(self, work: Callable[[T], Awaitable[R]]) -> R:
        """Do ``work`` with the instance. Raises :class:`PartUnavailableError` if cut off."""
        limit = asyncio.timeout(None)
        self._calls.add(limit)
        try:
            async with limit:
                return await work(self.value)
        except Exception as error:  # named and passed on
            # Whatever the cancelled work made of it: the cause is that the instance went away.
            if limit.expired():
                raise PartUnavailableError(self._part, "it ended during the call") from error
            raise
        finally:
            self._calls.discard(limit)
            if not self._calls:
                self._idle.set()

    async def end(self, seconds: float) -> None:
        """Give calls under way so many seconds, cut off what is left, and wait for that.

        The caller has seen to it that no new call comes here.
        """
        if await self._is_idle(seconds):
            return
        for limit in list(self._calls):
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())
        await self._is_idle(None)

    async def _is_idle(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._calls:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True


class Present(Generic[T]):
    """The instance that answers now; without one, callers wait a short time for the next."""

    def __init__(self, part: str, wait_seconds: float = WAIT_SECONDS) -> None:
        """``part`` is what callers read: for example ``the attestation agent``."""
        self.part = part
        self.wait_seconds = wait_seconds
        self._tenure: Tenure[T] | None = None
        self._changed = asyncio.Event()

    @property
    def value(self) -> T | None:
        """The instance, if there is one now. Keep it no longer than until the next ``await``."""
        return None if self._tenure is None else self._tenure.value

    def require(self) -> T:
        """Return the instance of now. Raises :class:`PartUnavailableError` without one."""
        if self._tenure is None:
            raise PartUnavailableError(self.part, "it is not open")
        return self._tenure.value

    async def arrival(self) -> T:
        """Return the instance of now, or the next one if it comes in time. Raises as above."""
        return (self._tenure or await self._next()).value

    def turn_to(self, tenure: Tenure[T]) -> None:
        """Send all further calls to ``tenure``, those that are waiting first."""
        self._tenure = tenure
        self._change()

    def withdraw(self, tenure: Tenure[T]) -> None:
        """Send it no further calls, unless another one has taken over already."""
        if self._tenure is tenure:
            self._tenure = None
            self._change()

    async def call(self, work: Callable[[T], Awaitable[R]]) -> R:
        """Do ``work`` with the instance of now.

        Raises :class:`PartUnavailableError` if none comes in time, or if it goes away meanwhile.
        """
        tenure = self._tenure
        if tenure is None:
            tenure = await self._next()
        return await tenure.run(work)

    async def fail_with(self, value: T) -> None:
        """Raise :class:`PartUnavailableError` when ``value`` has been gone from here.

        Background work for a part that holds on to ``value``, so that it is opened again as well.
        """
        await self.until_gone(value)
        raise PartUnavailableError(self.part, "it is opened anew")

    async def until_gone(self, value: T) -> None:
        """Return when ``value`` is no longer the instance of now."""
        while self._tenure is not None and self._tenure.value is value:
            await self._changed.wait()

    async def _next(self) -> Tenure[T]:
        try:
            async with asyncio.timeout(self.wait_seconds):
                while self._tenure is None:
                    await self._changed.wait()
                return self._tenure
        except TimeoutError as error:
            raise PartUnavailableError(self.part, "it failed and is started again") from error

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
