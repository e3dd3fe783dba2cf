"""Reading ahead: exact bytes for every pattern of reads, within the budget, verified at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossmount.crc64 import crc64
from ossmount.errors import IntegrityError, ObjectChangedError
from ossmount.memory import MIB, MemoryBudget, Shares
from ossmount.objects import ObjectVersion
from ossmount.readahead import ObjectReader, ReadPool

BASE = bytes(range(251)) * (40 * MIB // 251 + 1)


class MemorySource:
    """A store of one object; ``damage`` changes one byte on the way, ``calls`` counts ranges."""

    def __init__(self, content: bytes, damage: int | None = None) -> None:
        self.content = content
        self.damage = damage
        self.calls = 0
        self.failure: ObjectChangedError | None = None

    @property
    def version(self) -> ObjectVersion:
        return ObjectVersion('"E"', len(self.content), 0, crc64(self.content))

    async def get_range(
        self,
        version: ObjectVersion,
        start: int,
        target: memoryview,
        progress: Callable[[int], None],
    ) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        target[:] = self.content[start : start + len(target)]
        if self.damage is not None and start <= self.damage < start + len(target):
            target[self.damage - start] ^= 1
        progress(len(target))


def reader_of(source: MemorySource, budget: MemoryBudget) -> ObjectReader:
    return ObjectReader(source, source.version, ReadPool(budget))


async def read_all(reader: ObjectReader, step: int) -> bytes:
    content = bytearray()
    while piece := await reader.read(len(content), step):
        content += piece
    return bytes(content)


@pytest.mark.parametrize("size", [1, MIB - 1, 4 * MIB, 4 * MIB + 1, 33 * MIB + 77])
@pytest.mark.parametrize("total", [4 * MIB, 64 * MIB], ids=["tight", "ample"])
async def test_in_sequence(size: int, total: int) -> None:
    source, budget = MemorySource(BASE[:size]), MemoryBudget(total)
    reader = reader_of(source, budget)
    assert await read_all(reader, MIB) == source.content
    assert budget.peak <= total
    await reader.close()
    assert budget.used == 0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 20 * MIB), st.integers(1, 2 * MIB)), min_size=1, max_size=12),
    st.sampled_from([4 * MIB, 24 * MIB]),
)
def test_at_random(reads: list[tuple[int, int]], total: int) -> None:
    async def journey() -> None:
        source, budget = MemorySource(BASE[: 17 * MIB + 3]), MemoryBudget(total)
        reader = reader_of(source, budget)
        for offset, size in reads:
            assert await reader.read(offset, size) == source.content[offset : offset + size]
        assert budget.peak <= total
        await reader.close()
        assert budget.used == 0

    asyncio.run(journey())


async def test_two_readers_share_a_budget_that_holds_one() -> None:
    first, second = MemorySource(BASE[: 20 * MIB]), MemorySource(BASE[5 : 20 * MIB])
    budget = MemoryBudget(4 * MIB)
    pool = ReadPool(budget)
    readers = [ObjectReader(source, source.version, pool) for source in (first, second)]
    contents = await asyncio.gather(*(read_all(reader, MIB) for reader in readers))
    assert contents == [first.content, second.content]
    assert budget.peak <= budget.total


async def test_reading_in_sequence_takes_few_large_requests() -> None:
    source = MemorySource(BASE[: 40 * MIB])
    reader = reader_of(source, MemoryBudget(128 * MIB))
    await read_all(reader, 128 * 1024)
    assert source.calls <= 16


@pytest.mark.parametrize(
    ("size", "damage"),
    [(1000, 5), (4 * MIB, 0), (20 * MIB, 7 * MIB), (20 * MIB, 20 * MIB - 1)],
    ids=["small", "whole", "middle", "last"],
)
async def test_a_damaged_byte_never_ends_in_success(size: int, damage: int) -> None:
    reader = reader_of(MemorySource(BASE[:size], damage), MemoryBudget(64 * MIB))
    with pytest.raises(IntegrityError):
        await read_all(reader, MIB)
    with pytest.raises(IntegrityError):
        await reader.read(size - 1, 1)


async def test_a_failed_fetch_is_tried_again_when_asked_again() -> None:
    source = MemorySource(BASE[:1000])
    reader = reader_of(source, MemoryBudget(4 * MIB))
    source.failure = ObjectChangedError("GetObject")
    with pytest.raises(ObjectChangedError):
        await reader.read(0, 10)
    source.failure = None
    assert await reader.read(0, 10) == BASE[:10]


@given(st.integers(32 * MIB, 1 << 36))
def test_the_shares_never_exceed_the_whole(total: int) -> None:
    shares = Shares.of(total)
    requests = shares.workers * 2 * MIB + shares.connections * MIB // 4
    assert shares.reads + shares.parts + shares.scratch + requests <= total
    assert min(shares.reads, shares.parts, shares.scratch) >= 2 * MIB
