"""Runs the parts of a process so that one that fails is opened again while the others go on.

A part is an asynchronous context manager and background work that belongs to what it yields. Each
instance lives in a task of its own, since what is entered in a task must be left in it. What a
part does is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from secrecy.journal import get_logger
from serving.failure import describe
from serving.present import Present, Tenure

log = get_logger("serving")
T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, None]]

FIRST_PAUSE: Final = 0.1  # seconds before a failed part is opened again; doubled each time
LONGEST_PAUSE: Final = 30.0
STABLE_SECONDS: Final = 60.0  # a part that ran so long begins with the first pause again
DRAIN_SECONDS: Final = 10.0  # for calls to an instance that is replaced or stopped
CRASH_SECONDS: Final = 1.0  # for calls to an instance whose background work failed


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """``name`` goes to logs and metrics, ``title`` to callers.

    ``background`` runs beside the instance; work that returns is done, work that raises is the
    part's failure. ``exclusive``: a second instance cannot be opened beside the first.
    """

    name: str
    title: str
    open: Callable[[], AbstractAsyncContextManager[T]]
    background: Callable[[T], Sequence[Work]]
    exclusive: bool = False


class _Instance(Generic[T]):
    """One opening of a part, until it fails or is told to end."""

    def __init__(self, part: Part[T], present: Present[T]) -> None:
        self._part = part
        self._present = present
        self._end = asyncio.Event()
        self.opened: asyncio.Future[Tenure[T]] = asyncio.get_running_loop().create_future()
        self.began = asyncio.get_running_loop().time()
        self.task: asyncio.Task[None] = asyncio.create_task(self._live(), name=f"part {part.name}")

    async def ready(self) -> Tenure[T]:
        """Wait until it is open. Raises what opening raised; cancellation ends it."""
        try:
            either: set[asyncio.Future[Any]] = {self.opened, self.task}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.task.cancel()
            await asyncio.wait({self.task})
            raise
        if not self.opened.done():
            self.task.result()
        return self.opened.result()

    async def end(self) -> None:
        """Drain, close, and wait for both. What fails meanwhile is logged."""
        self._end.set()
        try:
            await asyncio.wait({self.task})
        except asyncio.CancelledError:
            self.task.cancel()
            await asyncio.wait({self.task})
            raise
        if not self.task.cancelled() and (error := self.task.exception()) is not None:
            log.error("part failed while it was closed", part=self._part.name, **describe(error))

    async def _live(self) -> None:
        async with self._part.open() as value:
            tenure = Tenure(self._part.title, value)
            self.opened.set_result(tenure)
            self._present.turn_to(tenure)
            try:
                async with asyncio.TaskGroup() as group:
                    works = [group.create_task(work()) for work in self._part.background(value)]
                    await self._end.wait()
                    self._present.withdraw(tenure)
                    await tenure.end(DRAIN_SECONDS)
                    for work in works:
                        work.cancel()
            finally:
                self._present.withdraw(tenure)
                await tenure.end(CRASH_SECONDS)


class Supervised(Generic[T]):
    """A part under supervision. ``present`` is what others call."""

    def __init__(self, part: Part[T]) -> None:
        self.present: Present[T] = Present(part.title)
        self.restarts = 0
        self._part = part
        self._instance: _Instance[T] | None = None
        self._turning = asyncio.Lock()
        self._failed = asyncio.Event()
        self._pause = FIRST_PAUSE
        self._keeper: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self._part.name

    @property
    def running(self) -> bool:
        """Whether it is open now, and not waiting to be opened again."""
        return self.present.value is not None

    async def start(self) -> T:
        """Open for the first time. Raises what opening raises: nothing is retried yet."""
        tenure = await self._open(self._part)
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")
        return tenure.value

    async def replace(self, part: Part[T]) -> None:
        """Open ``part`` and let it take over; then drain and close the instance before it.

        An exclusive part is closed first, callers wait meanwhile. Raises what opening raises;
        then the part is as it was.
        """
        async with self._turning:
            before, kept = self._instance, self._part
            if before is not None and part.exclusive:
                self._instance = None
                await before.end()
            try:
                await self._open(part)
            except Exception:  # put right and passed on
                if self._instance is None:
                    await self._open_again(kept)
                raise
            self._part = part
            if before is not None and not part.exclusive:
                await before.end()

    async def stop(self) -> None:
        """Drain and close. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        instance, self._instance = self._instance, None
        if instance is not None:
            await instance.end()

    async def _open(self, part: Part[T]) -> Tenure[T]:
        instance = _Instance(part, self.present)
        tenure = await instance.ready()
        self._instance = instance
        self._failed.clear()
        # Called for a task that has ended already as well.
        instance.task.add_done_callback(lambda _task: self._ended(instance))
        return tenure

    async def _open_again(self, part: Part[T]) -> None:
        """Open after a failure; if that fails too, leave it to the keeper."""
        try:
            await self._open(part)
        except Exception as error:  # noqa: BLE001 - whatever it is, the keeper tries again
            self._failed.set()
            log.error("part cannot be opened", part=self.name, **describe(error))  # noqa: TRY400

    def _ended(self, instance: _Instance[T]) -> None:
        """Note the end of an instance that nobody has asked to end."""
        if instance is not self._instance:
            return
        self._instance = None
        if asyncio.get_running_loop().time() - instance.began >= STABLE_SECONDS:
            self._pause = FIRST_PAUSE
        error = None if instance.task.cancelled() else instance.task.exception()
        cause = {"error": "cancelled"} if error is None else describe(error)
        log.error("part failed", part=self.name, again_in=self._pause, **cause)
        self._failed.set()

    async def _keep(self) -> None:
        """Open the part again whenever it has failed, at growing intervals."""
        while True:
            await self._failed.wait()
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            async with self._turning:
                if self._instance is None:
                    self.restarts += 1
                    await self._open_again(self._part)


class Supervisor:
    """Starts parts in order and stops them in reverse."""

    def __init__(self) -> None:
        self.parts: list[Supervised[Any]] = []

    async def start(self, part: Part[T]) -> Supervised[T]:
        """Open a part. Raises what opening raises."""
        supervised = Supervised(part)
        await supervised.start()
        self.parts.append(supervised)
        return supervised

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for part in reversed(self.parts):
            await part.stop()
