"""Quotes for coroutines: one at a time, shared where equal, retried until the caller's deadline.

A blocked read of configfs cannot be cancelled, so every try runs in one worker thread that owns
its entry and always removes it, whatever has become of the caller. The single thread is also
the queue: the kernel makes one quote at a time, and a second reader would only wait in it
uninterruptibly.
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
    TsmBusyError,
    TsmError,
    TsmHostError,
    TsmInterruptedError,
    TsmTimeoutError,
)
from tdx.quote import Quote
from tdx.report_data import ReportData
from tdx.tsm import TsmFilesystem
from tdx.tsm_report import PROVIDER_TDX, TsmReport

log = get_logger("tdx")

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
DEFAULT_TIMEOUT_SECONDS: Final = 60.0  # the kernel alone may wait 30 s for the host
MAX_WAITING: Final = 64  # different report data at once; more would wait a minute and longer
RETRIED: Final = (TsmBusyError, TsmInterruptedError, TsmTimeoutError)


@dataclass(slots=True, eq=False)
class _Flight:
    """One quote under way, and how many callers wait for it."""

    task: asyncio.Task[Quote] | None = None
    waiting: int = 0
    last_error: TsmError | None = None


class QuoteReader:
    """Takes quotes from a :class:`TsmFilesystem`. Close it to join its thread.

    ``quotes_taken`` counts quotes that the host made for us, ``busy_tries`` the tries that an
    earlier request turned away.
    """

    def __init__(
        self,
        tsm: TsmFilesystem,
        *,
        provider: str = PROVIDER_TDX,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        thread_sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._tsm = tsm
        self._provider = provider
        self._pause = pause
        self._thread_sleep = thread_sleep
        self._flights: dict[ReportData, _Flight] = {}
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="tsm-quote", initializer=_block_signals
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

        Busy, interrupted and timed-out tries are repeated, each with a new entry, after 0.5 s
        doubling to 8 s, until ``timeout_s``; a host failure is repeated once. Callers with equal
        report data share one quote. Cancellation leaves a running try to its thread, which still
        removes the entry. Raises :class:`TsmTimeoutError` naming the last cause at the deadline,
        else the :class:`TdxError` of the failed try.
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
            raise self._out_of_time(timeout_s, flight.last_error) from (flight.last_error or error)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                self._forget(report_data, flight)

    def _flight(self, report_data: ReportData) -> _Flight:
        flight = self._flights.get(report_data)
        if flight is None:
            if len(self._flights) >= MAX_WAITING:
                where = self._tsm.describe("")
                raise TsmBusyError(
                    "queue at", where, f"{MAX_WAITING} quotes are already waited for"
                )
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
        host_failed = False
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._attempt, report_data)
            except TsmHostError as error:
                if host_failed:
                    raise
                host_failed = True
                flight.last_error = error
            except RETRIED as error:
                self.busy_tries += isinstance(error, TsmBusyError)
                flight.last_error = error
            log.info("quote retried", pause_s=pause, cause=flight.last_error)
            await self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _attempt(self, report_data: ReportData) -> Quote:
        """One try, in the worker thread."""
        started = time.monotonic()
        with TsmReport(self._tsm, sleep=self._thread_sleep) as report:
            report.require_provider(self._provider)
            quote = report.quote(report_data)
        self.quotes_taken += 1
        log.info("quote taken", seconds=round(time.monotonic() - started, 3), size=len(quote.raw))
        return quote

    def _out_of_time(self, timeout_s: float, last: TsmError | None) -> TsmTimeoutError:
        cause = f"; last cause: {last}" if last else ""
        return TsmTimeoutError(
            "take a quote through",
            self._tsm.describe(""),
            f"no quote within {timeout_s:g} s{cause}",
            hint="the host makes one quote at a time and may be overloaded",
        )

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
