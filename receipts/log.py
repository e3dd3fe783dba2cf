"""The sink of a running guest: a bounded queue, a thread that writes, and checkpoints.

The event loop never waits for the medium; where receipts are required, the caller does.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from receipts.chain import Head
from receipts.checkpoints import DOMAIN, OPERATION, checkpoint_content
from receipts.errors import ReceiptsDamagedError, ReceiptsUnavailableError
from receipts.record import Access, Body, Checkpoint, CheckpointResult, Stop
from receipts.scribe import Scribe
from receipts.segments import SegmentDirectory
from secrecy.journal import get_logger

log = get_logger("receipts")

QUEUE: Final = 1024  # receipts that wait to be written
EXTEND_SECONDS: Final = 30.0
# The interval of checkpoints doubles after so many: the event log that they go to is bounded too.
CHECKPOINTS_PER_INTERVAL: Final = 100
RESULTS: Final[dict[int, CheckpointResult]] = {
    0: "measured",
    1: "not-supported",
    2: "not-enabled",
}
Extend = Callable[[str, str, str], Awaitable[int]]
"""Measures ``domain operation content``; returns 0 done, 1 not supported, 2 not enabled."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """``required``: nothing is given without a receipt. ``checkpoint_every`` 0: only on demand.

    ``segments`` files of ``segment_receipts`` each are kept.
    """

    required: bool = False
    checkpoint_every: int = 1000
    segment_receipts: int = 1000
    segments: int = 8


@dataclass(frozen=True, slots=True)
class ReceiptCounts:
    """``sequence`` is of the last receipt; ``lost`` accesses have none since this process began."""

    sequence: int
    lost: int
    checkpoints: int
    dropped: int
    failing: bool


@dataclass(slots=True)
class _Waiting:
    """A receipt to write, or with ``body`` None a question for the head. ``told`` is optional."""

    body: Body | None
    told: asyncio.Future[Head] | None = None


class ReceiptLog:
    """Implements :class:`~receipts.sink.ReceiptSink`. Made by :func:`open_log`.

    Everything but the writing thread belongs to one event loop.
    """

    def __init__(self, scribe: Scribe, settings: LogSettings) -> None:
        self._scribe = scribe
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._overflow = 0
        self._closing = False
        self._failure = ""
        self._overflowed = False
        self._since_checkpoint = 0
        self._due = asyncio.Event()
        self._checkpointing = asyncio.Lock()
        self._thread = threading.Thread(target=self._work, name="receipts", daemon=True)

    @property
    def boot(self) -> str:
        """The name of the chain."""
        return self._scribe.boot

    def counts(self) -> ReceiptCounts:
        """Return how the log is. Never waits."""
        scribe = self._scribe
        return ReceiptCounts(
            scribe.head.sequence,
            scribe.lost + self._overflow,
            scribe.checkpoints,
            scribe.dropped,
            bool(self._failure),
        )

    def note(self, access: Access) -> None:
        self._put(_Waiting(access))

    async def record(self, access: Access) -> None:
        if not self._settings.required:
            self._put(_Waiting(access))
            return
        await self._written(access)

    async def flush(self) -> Head:
        """Wait until everything noted so far is written, and return the head.

        Raises :class:`ReceiptsUnavailableError`.
        """
        return await self._written(None)

    async def checkpoint(self, extend: Extend) -> Checkpoint:
        """Measure the head, and note in the chain how that went.

        Raises :class:`ReceiptsUnavailableError` if the chain cannot be written.
        """
        async with self._checkpointing:
            self._since_checkpoint = 0
            head = await self.flush()
            result = await self._extended(extend, head)
            number = self._scribe.checkpoints + 1
            body = Checkpoint(number, head.sequence, head.digest, result)
            await self._written(body)
            self._scribe.checkpoints = number
            return body

    async def keep_checkpoints(self, extend: Extend) -> None:
        """Make a checkpoint whenever so many receipts were written. Runs until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.checkpoint(extend)
            except ReceiptsUnavailableError as error:
                log.error("no checkpoint of the receipts", cause=error)  # noqa: TRY400 - no trace

    async def stop(self, extend: Extend) -> None:
        """Note an orderly end and make a checkpoint of it. Failures are logged."""
        self.note_body(Stop())
        try:
            await self.checkpoint(extend)
        except ReceiptsUnavailableError as error:
            log.error("no last checkpoint of the receipts", cause=error)  # noqa: TRY400 - no trace

    def note_body(self, body: Body) -> None:
        """As :meth:`note`, for what is no access."""
        self._put(_Waiting(body))

    async def _extended(self, extend: Extend, head: Head) -> CheckpointResult:
        try:
            async with asyncio.timeout(EXTEND_SECONDS):
                code = await extend(DOMAIN, OPERATION, checkpoint_content(self.boot, head))
        except Exception as error:  # noqa: BLE001 - the agent has errors of its own
            log.error("receipts cannot be measured", cause=error)  # noqa: TRY400 - no trace
            return "failed"
        return RESULTS.get(code, "failed")

    async def _written(self, body: Body | None) -> Head:
        told: asyncio.Future[Head] = self._loop.create_future()
        if not self._put(_Waiting(body, told)):
            raise ReceiptsUnavailableError(f"{QUEUE} others wait to be written")
        return await told

    def _put(self, waiting: _Waiting) -> bool:
        with self._lock:
            taken = len(self._queue) < QUEUE and not self._closing
            if taken:
                self._queue.append(waiting)
                if len(self._queue) == 1:
                    self._lock.notify()
            else:
                self._overflow += 1
        if not taken:
            self._note_overflow()
        self._count_towards_checkpoint()
        return taken

    def _note_overflow(self) -> None:
        if not self._overflowed:
            log.error("receipts are lost", reason="more wait to be written than fit", limit=QUEUE)
        self._overflowed = True

    def _count_towards_checkpoint(self) -> None:
        every = self._settings.checkpoint_every
        self._since_checkpoint += 1
        if every and self._since_checkpoint >= every << min(self._doublings, 32):
            self._since_checkpoint = 0
            self._due.set()

    @property
    def _doublings(self) -> int:
        return self._scribe.checkpoints // CHECKPOINTS_PER_INTERVAL

    def _work(self) -> None:
        """The thread. Ends when told to, with nothing waiting."""
        while True:
            with self._lock:
                while not self._queue and not self._closing:
                    self._lock.wait()
                if not self._queue:
                    return
                batch = list(self._queue)
                self._queue.clear()
                overflow, self._overflow = self._overflow, 0
            if overflow:
                self._scribe.lose(overflow, "queue-full")
            failure = self._write(batch)
            told = [waiting.told for waiting in batch if waiting.told is not None]
            if told or failure or self._failure:
                head, lost = self._scribe.head, self._scribe.lost
                self._loop.call_soon_threadsafe(self._settle, told, failure, head, lost)

    def _write(self, batch: list[_Waiting]) -> str:
        """Return why it could not be written, or nothing."""
        try:
            self._scribe.write([waiting.body for waiting in batch if waiting.body is not None])
        except OSError as error:
            return error.strerror or "input or output failed"
        except Exception as error:  # noqa: BLE001 - those who wait must be told of any defect
            return type(error).__name__
        return ""

    def _settle(
        self, told: list[asyncio.Future[Head]], failure: str, head: Head, lost: int
    ) -> None:
        if failure and not self._failure:
            log.error(
                "receipts cannot be written", reason=failure, required=self._settings.required
            )
        elif self._failure and not failure:
            log.warning("receipts are written again", lost=lost)
        self._failure = failure
        for future in told:
            if future.done():
                continue
            if failure:
                future.set_exception(ReceiptsUnavailableError(failure))
            else:
                future.set_result(head)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, and end the thread. Idempotent.

        Cancellation is passed on when the thread has ended: it writes to descriptors that whoever
        opened them closes next.
        """
        with self._lock:
            self._closing = True
            self._lock.notify()
        ended = asyncio.create_task(asyncio.to_thread(self._thread.join))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            await asyncio.wait([ended])
            raise


@asynccontextmanager
async def open_log(directory: Path, settings: LogSettings) -> AsyncIterator[ReceiptLog]:
    """Open the chain in ``directory``, or begin one; at the end write what waits.

    Raises :class:`ReceiptsDamagedError` if ``required`` and the chain there does not hold, or if
    the directory is not this process's alone or cannot be used.
    """
    store = SegmentDirectory(directory)
    scribe = Scribe(store, segment_receipts=settings.segment_receipts, segments=settings.segments)
    try:
        try:
            await asyncio.to_thread(store.open)
            await asyncio.to_thread(scribe.open, required=settings.required)
        except OSError as error:
            problem = error.strerror or "cannot be used"
            raise ReceiptsDamagedError(str(directory), problem) from error
        receipts = ReceiptLog(scribe, settings)
        receipts.start()
        try:
            yield receipts
        finally:
            await receipts.close()
    finally:
        store.close()
