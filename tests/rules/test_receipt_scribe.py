"""Writing a chain: files that end, what is dropped, what is lost, and going on after an end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts import (
    Access,
    Body,
    Caller,
    Checkpoint,
    Gap,
    Genesis,
    ReceiptsDamagedError,
    Restart,
    Segment,
    Subject,
)
from receipts.record import MAX_RECEIPT_BYTES
from receipts.scribe import MAX_SEGMENT_BYTES, PART, Scribe
from tests.rules.memory_store import MemoryStore
from tests.rules.receipt_samples import RELEASE, accesses


def _scribe(store: MemoryStore, *, required: bool = False, size: int = 4) -> Scribe:
    scribe = Scribe(store, segment_receipts=size, segments=3, clock=lambda: 1_700_000_000.0)
    scribe.open(required=required)
    return scribe


def _bodies(store: MemoryStore, kind: type[Body]) -> list[Body]:
    return [r.body for r in store.chain().receipts if isinstance(r.body, kind)]


def test_a_new_chain_begins_with_a_random_identity() -> None:
    first, second = MemoryStore(), MemoryStore()
    assert _scribe(first).boot != _scribe(second).boot
    (genesis,) = _bodies(first, Genesis)
    assert isinstance(genesis, Genesis) and genesis.started_us == 1_700_000_000_000_000


@given(st.lists(st.lists(accesses, min_size=1, max_size=7), max_size=8), st.integers(2, 6))
@settings(deadline=None)
def test_what_was_kept_is_a_chain_and_what_was_dropped_is_said(
    batches: list[list[Body]], size: int
) -> None:
    store = MemoryStore()
    scribe = _scribe(store, size=size)
    for batch in batches:
        scribe.write(batch)
        chain = store.chain()
        assert chain.holds and chain.head == scribe.head
        assert len(store.files) <= 3
        assert all(text.count(b"\n") <= size for text in store.files.values())
        assert chain.first == scribe.dropped
    written = sum(len(batch) for batch in batches)
    marks = scribe.head.sequence + 1 - written
    assert marks == 1 + (scribe.head.sequence // size)  # genesis and one for each further file


def test_the_oldest_file_goes_only_after_the_next_one_is_there() -> None:
    store = MemoryStore()
    scribe = _scribe(store)
    scribe.write([RELEASE] * 9)  # with the marks, three full files of four
    store.full = True
    with pytest.raises(OSError, match="No space"):
        scribe.write([RELEASE] * 2)
    assert sorted(store.files) == [1, 2, 3] and store.chain().first == 0
    store.full = False
    scribe.write([])
    assert sorted(store.files) == [2, 3, 4] and store.chain().holds and store.chain().lost == 2
    segment = _bodies(store, Segment)[-1]
    assert isinstance(segment, Segment) and segment.retained_from == store.chain().first == 4


def test_large_receipts_end_a_file_sooner() -> None:
    store = MemoryStore()
    scribe = _scribe(store, size=100_000)
    wide = "\U0001f600" * 512
    large = Access("mount", "failed", Caller("rest", 0, 0, wide), Subject(mount_point=wide), wide)
    for _ in range(40):
        scribe.write([large] * 50)
    assert store.chain().holds and len(store.files) == 3
    assert max(map(len, store.files.values())) < MAX_SEGMENT_BYTES + PART * MAX_RECEIPT_BYTES


def test_what_could_not_be_written_is_counted_in_the_chain() -> None:
    store = MemoryStore()
    scribe = _scribe(store, size=99)
    scribe.write([RELEASE])
    store.full = True
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            scribe.write([RELEASE, RELEASE])
    scribe.lose(5, "queue-full")
    assert scribe.lost == 11 and store.chain().lost == 0
    store.full = False
    scribe.write([RELEASE])
    assert _bodies(store, Gap) == [Gap(6, "write-failed"), Gap(5, "queue-full")]
    assert store.chain().holds and store.chain().lost == 11
    scribe.write([RELEASE])
    assert len(_bodies(store, Gap)) == 2


def test_a_service_that_starts_again_goes_on_with_the_chain() -> None:
    store = MemoryStore()
    first = _scribe(store)
    head = first.head
    first.write([RELEASE] * 5 + [Checkpoint(7, head.sequence, head.digest, "measured")])
    second = _scribe(store, required=True)
    second.write([RELEASE] * 3)
    assert second.boot == first.boot and second.checkpoints == 7
    assert store.chain().holds and _bodies(store, Restart) == [Restart()]


@pytest.mark.parametrize("left", [1, 40, 200])
def test_half_a_receipt_at_the_end_is_cut_off(left: int) -> None:
    store = MemoryStore()
    _scribe(store).write([RELEASE])
    whole = store.files[1]
    store.files[1] = whole + whole[:left]
    _scribe(store, required=True).write([RELEASE])
    assert store.chain().holds and _bodies(store, Restart) == [Restart(left)]


def test_half_of_the_first_receipt_is_as_if_there_were_none() -> None:
    store = MemoryStore()
    store.files[1] = b'{"body":'
    _scribe(store, required=True)
    assert store.chain().holds and len(store.files) == 1
    scribe = _scribe(store)
    scribe.write([RELEASE] * 2)
    store.files[2] = b'{"bo'
    _scribe(store, required=True)
    assert store.chain().holds


@pytest.mark.parametrize("further", [False, True], ids=["first file", "further file"])
def test_a_file_that_was_made_and_not_written_to_is_in_nobodys_way(further: bool) -> None:
    store = MemoryStore()
    if further:
        _scribe(store).write([RELEASE] * 3)  # with the mark, a full file of four
    store.files[1 + further] = b""
    _scribe(store, required=True).write([RELEASE] * 3)
    assert store.chain().holds
    assert len(_bodies(store, Access)) == 3 * (1 + further)


@pytest.mark.parametrize("place", [30, 300])
def test_a_chain_that_does_not_hold_is_never_gone_on_with(place: int) -> None:
    store = MemoryStore()
    _scribe(store).write([RELEASE, RELEASE])
    changed = bytearray(store.files[1])
    changed[place] ^= 1
    store.files[1] = bytes(changed)
    with pytest.raises(ReceiptsDamagedError):
        _scribe(store, required=True)
    assert store.files[1] == bytes(changed)
    scribe = _scribe(store)
    (genesis,) = _bodies(store, Genesis)
    assert isinstance(genesis, Genesis) and genesis.after_damage
    assert store.aside[1] == bytes(changed) and store.chain().head == scribe.head


def test_a_file_put_in_between_is_damage() -> None:
    store = MemoryStore()
    scribe = _scribe(store)
    scribe.write([RELEASE] * 5)
    store.files[3] = b""
    store.files[4] = store.files.pop(2)
    with pytest.raises(ReceiptsDamagedError):
        _scribe(store, required=True)
