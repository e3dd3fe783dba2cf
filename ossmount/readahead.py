"""Reading one object through one file handle: blocks fetched ahead, in parallel, in bounded memory.

A handle starts with small blocks. As long as reads stay in sequence the window doubles; a jump
brings it back. Bytes are served as they arrive. When an object is read completely in sequence its
CRC-64 is compared before the last block is handed out; objects of up to one block are fetched
whole and compared before their first byte is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from ossmount.crc64 import combine, crc64
from ossmount.errors import FileError, IntegrityError, OssMountError
from ossmount.memory import MIB, MemoryBudget
from ossmount.objects import ObjectVersion

FIRST_BLOCK: Final = MIB
MAX_BLOCK: Final = 8 * MIB
MAX_WINDOW: Final = 64 * MIB
WHOLE_OBJECT: Final = 4 * MIB  # objects up to this are one block, verified before served
RANDOM_BLOCK: Final = 128 * 1024
SLACK: Final = 4 * MIB  # how far the kernel's parallel read-ahead may be out of order


class RangeSource(Protocol):
    """Where the bytes come from."""

    async def get_range(
        self,
        version: ObjectVersion,
        start: int,
        target: memoryview,
        progress: Callable[[int], None],
    ) -> None:
        """Fill ``target`` from offset ``start`` of ``version``; report how much has arrived."""
        ...


class ReadPool:
    """The read share of the budget, and the readers whose idle blocks it may take back."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.max_window = min(MAX_WINDOW, budget.total // 2)
        self.max_block = min(MAX_BLOCK, max(FIRST_BLOCK, budget.total // 8))
        self._readers: dict[ObjectReader, None] = {}  # least recently used first

    def touch(self, reader: ObjectReader) -> None:
        """Note that ``reader`` was just used."""
        self._readers.pop(reader, None)
        self._readers[reader] = None

    def forget(self, reader: ObjectReader) -> None:
        """Remove a closed reader."""
        self._readers.pop(reader, None)

    async def acquire(self, size: int) -> None:
        """Take ``size`` bytes for a block that somebody waits for.

        Idle blocks of other readers are given up for it. What is not idle is in flight and
        becomes idle or fails within its own deadline, so this ends.
        """
        while not self.budget.try_acquire(size):
            if not any(reader.give_up_block() for reader in list(self._readers)):
                await self.budget.changed()


class Block:
    """A range of the object, being fetched or complete. Its memory is counted by its reader."""

    def __init__(self, start: int, length: int, *, sequential: bool) -> None:
        self.start = start
        self.sequential = sequential
        self.end = start + length
        self.content = bytearray(length)
        self.filled = 0
        self.complete = False
        self.error: OssMountError | None = None
        self.users = 0
        self.task: asyncio.Task[None] | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def advance(self, filled: int) -> None:
        """Note how many bytes have arrived and wake those who wait for no more than that."""
        self.filled = filled
        if self._waiters:
            self._wake(lambda needed: needed <= filled)

    def finish(self, error: OssMountError | None) -> None:
        """Note the end of the fetch."""
        self.error = error
        self.complete = error is None
        self._wake(lambda _needed: True)

    def _wake(self, ready: Callable[[int], bool]) -> None:
        waiting = []
        for needed, future in self._waiters:
            if not ready(needed):
                waiting.append((needed, future))
            elif not future.done():
                future.set_result(None)
        self._waiters = waiting

    async def wait(self, needed: int) -> None:
        """Return when the first ``needed`` bytes are there; raise what ended the fetch instead."""
        while not self.complete and self.filled < needed:
            if self.error is not None:
                raise self.error
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((needed, future))
            await future


class ObjectReader:
    """Serves the reads of one handle from one pinned version."""

    def __init__(self, source: RangeSource, version: ObjectVersion, pool: ReadPool) -> None:
        self.version = version
        self._source = source
        self._pool = pool
        self._blocks: dict[int, Block] = {}  # by start, ascending
        self._window = FIRST_BLOCK
        self._cursor = 0  # end of the furthest read in sequence
        self._sums: dict[int, tuple[int, int]] = {}  # start -> (length, CRC-64), in sequence only
        self._summed = (0, 0)  # length and CRC-64 of the verified beginning
        self._corrupt: IntegrityError | None = None

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return up to ``size`` bytes at ``offset``; fewer only at the end of the object.

        Raises :class:`~ossmount.errors.OssError`. A cancelled read leaves its block in flight.
        """
        end = min(offset + size, self.version.size)
        if offset >= end:
            return b""
        self._pool.touch(self)
        pieces: list[memoryview] = []
        position = offset
        while position < end:
            block = self._find(position) or await self._demand(position, end)
            block.users += 1
            try:
                if position == offset:
                    self._note(offset, end)
                upto = min(end, block.end)
                await self._available(block, upto - block.start)
            finally:
                block.users -= 1
            pieces.append(memoryview(block.content)[position - block.start : upto - block.start])
            position = upto
        self._drop_passed()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _available(self, block: Block, needed: int) -> None:
        if block.end < self.version.size:
            await block.wait(needed)
            return
        await block.wait(block.end - block.start)
        if block.start:
            for earlier in list(self._blocks.values()):
                with contextlib.suppress(OssMountError):
                    await earlier.wait(earlier.end - earlier.start)
        self._verify()

    def _verify(self) -> None:
        """Compare the CRC-64 once the sums cover the whole object without a gap."""
        if self._corrupt is not None:
            raise self._corrupt
        length, total = self._summed
        while length in self._sums:
            step, crc = self._sums.pop(length)
            total = combine(total, crc, step)
            length += step
        self._summed = (length, total)
        expected = self.version.crc
        if length == self.version.size and expected is not None and expected != total:
            self._corrupt = IntegrityError("GetObject", expected=expected, got=total)
            raise self._corrupt

    def _find(self, position: int) -> Block | None:
        for block in self._blocks.values():
            if block.start <= position < block.end:
                if block.error is None:
                    return block
                # A failed fetch is repeated once somebody asks for it again.
                self._discard(block)
                return None
        return None

    async def _demand(self, position: int, end: int) -> Block:
        """Start the block that holds ``position``, whatever has to be given up for its memory."""
        size = self.version.size
        sequential = True
        if size <= min(WHOLE_OBJECT, self._pool.max_block):
            start, length = 0, size
        elif self._in_sequence(position):
            start, length = position, min(self._block_length(), size - position)
        else:
            sequential = False
            self._window = FIRST_BLOCK
            start = position - position % RANDOM_BLOCK
            length = min(max(RANDOM_BLOCK, end - start), self._pool.max_block, size - start)
        for block in self._blocks.values():
            # Never fetch twice what is there or on its way.
            if start < block.start < start + length:
                length = block.start - start
        await self._pool.acquire(length)
        meanwhile = self._find(position) or self._blocks.get(start)
        if meanwhile is not None:
            self._pool.budget.release(length)
            return meanwhile
        return self._start(start, length, sequential=sequential)

    def _block_length(self) -> int:
        return max(FIRST_BLOCK, min(self._pool.max_block, self._window // 4))

    def _in_sequence(self, position: int) -> bool:
        return self._cursor - SLACK <= position <= self._cursor + SLACK

    def _start(self, start: int, length: int, *, sequential: bool) -> Block:
        block = Block(start, length, sequential=sequential)
        self._blocks[start] = block
        # Awaited by close(); readers wait on the block.
        block.task = asyncio.create_task(self._fetch(block))
        return block

    async def _fetch(self, block: Block) -> None:
        try:
            await self._source.get_range(
                self.version, block.start, memoryview(block.content), block.advance
            )
        except OssMountError as error:
            block.finish(error)
        except BaseException:  # cleaned up and passed on, cancellation included
            # Nobody may wait for a fetch that has ended.
            block.finish(FileError(errno.EIO, "read", "the fetch was ended"))
            raise
        else:
            if block.sequential and self._summed[0] <= block.start:
                self._sums[block.start] = (block.end - block.start, crc64(block.content))
            block.finish(None)
        finally:
            self._pool.budget.poke()

    def _note(self, offset: int, end: int) -> None:
        """Follow the sequence and fetch ahead of it as far as window and budget allow."""
        if not self._in_sequence(offset):
            self._cursor = end
            return
        if end <= self._cursor:
            return
        self._cursor = end
        ahead = self._fetched_to(end)
        if ahead - end > self._window // 2:
            return
        self._window = min(self._window * 2, self._pool.max_window)
        while ahead < min(end + self._window, self.version.size):
            length = min(self._block_length(), self.version.size - ahead)
            if any(ahead < block.start < ahead + length for block in self._blocks.values()):
                return
            if not self._pool.budget.try_acquire(length):
                return
            self._start(ahead, length, sequential=True)
            ahead += length

    def _fetched_to(self, position: int) -> int:
        """Return the end of the unbroken run of blocks that covers ``position``."""
        for block in self._ascending():
            if block.start <= position < block.end or block.start == position:
                position = block.end
        return position

    def _ascending(self) -> Iterator[Block]:
        return iter(sorted(self._blocks.values(), key=lambda block: block.start))

    def _drop_passed(self) -> None:
        """Drop blocks that the sequence has left behind."""
        for block in list(self._blocks.values()):
            passed = block.end + SLACK <= self._cursor or not self._near(block)
            if block.complete and passed and not block.users:
                self._discard(block)

    def _near(self, block: Block) -> bool:
        return block.end > self._cursor - SLACK and block.start <= self._cursor + self._window

    def give_up_block(self) -> bool:
        """Drop the block that will be needed last, if any is idle. Return whether one was."""
        idle = [b for b in self._blocks.values() if (b.complete or b.error) and not b.users]
        if not idle:
            return False
        self._discard(max(idle, key=lambda block: block.start))
        return True

    def _discard(self, block: Block) -> None:
        del self._blocks[block.start]
        self._pool.budget.release(block.end - block.start)

    async def close(self) -> None:
        """End all fetches and give the memory back."""
        self._pool.forget(self)
        tasks = [block.task for block in self._blocks.values() if block.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for block in list(self._blocks.values()):
            self._discard(block)
