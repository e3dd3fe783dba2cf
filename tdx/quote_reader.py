"""Quotes for coroutines: one at a time, shared where equal, retried until the caller's deadline.

A blocked read cannot be cancelled, so every try of a source runs in one worker thread, which
finishes it and cleans up whatever has become of the caller. The single thread is also the queue:
the kernel makes one quote at a time, and a second reader would only wait in it uninterruptibly.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

from secrecy.journal import get_logger
from tdx.errors import (
    DeviceBusyError,
    DeviceHostError,
    QgsRefusedError,
    QgsTimeoutError,
    QgsUnreachableError,
    QuoteQueueError,
    QuoteTimeoutError,
    TdxError,
    TsmBusyError,
    TsmGenerationError,
    TsmHostError,
    TsmInterruptedError,
    TsmTimeoutError,
)
from tdx.quote import Quote
from tdx.quote_source import QuoteSource
from tdx.report_data import ReportData

log = get_logger("tdx")

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
DEFAULT_TIMEOUT_SECONDS: Final = 60.0  # the kernel alone may wait 30 s for the host
MAX_WAITING: Final = 64  # different report data at once; more would wait a minute and longer
BUSY: Final = (TsmBusyError, DeviceBusyError)
# Repeated until the caller's deadline.
RETRIED: Final = (*BUSY, TsmInterruptedError, TsmTimeoutError, QgsTimeoutError)
# Repeated so many times, in case the cause was passing.
REPEATS: Final[dict[type[TdxError], int]] = {
    TsmHostError: 1,
    DeviceHostError: 1,
    QgsRefusedError: 1,
    QgsUnreachableError: 2,
    TsmGenerationError: 2,  # a rival writer; each try has an entry of a new name
}


@dataclass(slots=True, eq=False)
class _Flight:
    """One quote under way, and how many callers wait for it."""

    task: asyncio.Task[Quote] | None = None
    waiting: int = 0
    last_error: TdxError | None = None


class QuoteReader:
    """Takes quotes from a :class:`QuoteSource`. Close it to join its thread.

    ``quotes_taken`` counts quotes that the host made for us, ``busy_tries`` the tries that an
    earlier request turned away.
    """

    def __init__(
        self,
        source: QuoteSource,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._pause = pause
        self._flights: dict[ReportData, _Flight] = {}
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="tdx-quote", initializer=_block_signals
        )
        self.quotes_taken = 0
        self.busy_tries = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def quote(
        self, report_data: ReportData, *, timeout_s: float = DEFAULT_TIMEOUT_SECONDS
    ) -> bytes:
        """Return the bytes of a quote bound to ``report_data``, cut after its signature.

        Busy, interrupted and timed-out tries are repeated after 0.5 s doubling to 8 s, until
        ``timeout_s``; a host failure is repeated once, a rival writer's interference twice.
        Callers with equal report data share one quote. Cancellation leaves a running try to its
        thread, which still cleans up. Raises :class:`QuoteTimeoutError` naming the last cause at
        the deadline, :class:`QuoteQueueError`, else the :class:`TdxError` of the failed try.
        """
        return (await self.parsed_quote(report_data, timeout_s=timeout_s)).raw

    async def parsed_quote(
        self, report_data: ReportData, *, timeout_s: float = DEFAULT_TIMEOUT_SECONDS
    ) -> Quote:
        """As :meth:`quote`, with the parsed form."""
        flight = self._flight(report_data)
        flight.waiting += 1
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                # One caller's cancellation must not end the others' quote.
                return await asyncio.shield(_task(flight))
        except TimeoutError as error:
            if not limit.expired():
                raise
            last = flight.last_error
            raise QuoteTimeoutError(self._source.describe(), timeout_s, last) from (last or error)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                self._forget(report_data, flight)

    def _flight(self, report_data: ReportData) -> _Flight:
        flight = self._flights.get(report_data)
        if flight is None:
            if len(self._flights) >= MAX_WAITING:
                raise QuoteQueueError(self._source.describe(), MAX_WAITING)
            flight = self._flights[report_data] = _Flight()
            # Awaited by every caller in parsed_quote; the last one to leave cancels it.
            flight.task = asyncio.create_task(self._take(report_data, flight))
        return flight

    def _forget(self, report_data: ReportData, flight: _Flight) -> None:
        task = _task(flight)
        if self._flights.get(report_data) is flight:
            del self._flights[report_data]
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # seen, even when every caller has gone

    async def _take(self, report_data: ReportData, flight: _Flight) -> Quote:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        repeats = dict(REPEATS)
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._attempt, report_data)
            except RETRIED as error:
                self.busy_tries += isinstance(error, BUSY)
                flight.last_error = error
            except tuple(REPEATS) as error:
                if not repeats[type(error)]:
                    raise
                repeats[type(error)] -= 1
                flight.last_error = error
            log.info("quote retried", pause_s=pause, cause=flight.last_error)
            await self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _attempt(self, report_data: ReportData) -> Quote:
        """One try, in the worker thread."""
        started = time.monotonic()
        quote = self._source.take(report_data)
        self.quotes_taken += 1
        log.info("quote taken", seconds=round(time.monotonic() - started, 3), size=len(quote.raw))
        return quote

    async def aclose(self) -> None:
        """Drop all waiters and join the thread, which finishes the try it is in (up to 30 s)."""
        tasks = [_task(flight) for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


def _task(flight: _Flight) -> asyncio.Task[Quote]:
    if flight.task is None:
        raise RuntimeError("a flight is registered only together with its task")
    return flight.task


def _block_signals() -> None:
    # A signal taken here would make Python repeat the read: a second quote while the kernel's
    # buffer of the first is still in flight.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
