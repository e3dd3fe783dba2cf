"""The mock TSM's rules without a mount: counters at their limits, errno boundary, faults."""

from __future__ import annotations

import asyncio
import errno

import pyfuse3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.errors import FaultSpecError, SyscallError
from mocktee.pki import MockPki
from mocktee.td import TdState
from mocktee.tsm.boundary import answered
from mocktee.tsm.faults import MAX_FAULTS, Fault, FaultKind, FaultQueue
from mocktee.tsm.provider import TdxProvider
from mocktee.tsm.subsystem import GENERATION_MODULUS, ReportEntry, ReportSubsystem

DATA = bytes(range(64))
PKI = MockPki.create()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
FAULT_LIKE = st.fixed_dictionaries(
    {"kind": st.sampled_from(list(FaultKind)) | st.text(max_size=9)},
    optional={"count": JSON, "seconds": JSON, "length": JSON, "offset": JSON, "provider": JSON},
)


def subsystem(*, latency_s: float = 0.0) -> ReportSubsystem:
    faults = FaultQueue()
    return ReportSubsystem(TdxProvider(PKI, TdState.booted(), faults, latency_s), faults)


@pytest.mark.parametrize(
    ("write", "read", "after"),
    [
        pytest.param(0, 0, 1, id="fresh"),
        pytest.param(GENERATION_MODULUS - 2, 0, GENERATION_MODULUS - 1, id="last-before-full"),
        pytest.param(GENERATION_MODULUS - 1, 5, 0, id="wraps"),
        pytest.param(GENERATION_MODULUS - 1, 0, None, id="one-behind-zero"),
        pytest.param(6, 7, None, id="one-behind"),
    ],
)
def test_store_is_busy_only_one_behind_the_read_counter(
    write: int, read: int, after: int | None
) -> None:
    entry = ReportEntry(b"e", write_generation=write, read_generation=read)
    if after is None:
        with pytest.raises(SyscallError) as caught:
            entry.advance()
        assert caught.value.errno == errno.EBUSY
        assert entry.write_generation == write
    else:
        entry.advance()
        assert entry.write_generation == after


async def test_removal_waits_for_callbacks_of_its_entry_only() -> None:
    tsm = subsystem()
    entry, other = await tsm.make_entry(b"a"), await tsm.make_entry(b"b")
    await tsm.store_inblob(entry, DATA)
    tsm.faults.replace([{"kind": "hold"}])
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(tsm.read_outblob(entry))
        while tsm.faults.faults:
            await asyncio.sleep(0)
        removing = tasks.create_task(tsm.remove_entry(b"a"))
        await tsm.remove_entry(b"b")
        assert other.dead
        assert not any((entry.dead, removing.done(), reading.done()))
        tsm.faults.clear()
    assert entry.dead and reading.result()
    with pytest.raises(SyscallError) as caught:
        await tsm.read_outblob(entry)
    assert caught.value.errno == errno.ENOENT


async def test_failed_quote_frees_the_old_one_and_keeps_the_counters() -> None:
    tsm = subsystem()
    entry = await tsm.make_entry(b"a")
    await tsm.store_inblob(entry, DATA)
    assert await tsm.read_outblob(entry)
    await tsm.store_inblob(entry, DATA)
    tsm.faults.replace([{"kind": "eintr"}])
    with pytest.raises(SyscallError) as caught:
        await tsm.read_outblob(entry)
    assert caught.value.errno == errno.EINTR
    assert (entry.outblob, entry.write_generation, entry.read_generation) == (None, 2, 1)


async def test_latency_is_waited_for_and_cut_short_by_stopping() -> None:
    tsm = subsystem(latency_s=3600.0)
    entry = await tsm.make_entry(b"a")
    await tsm.store_inblob(entry, DATA)
    reading = asyncio.ensure_future(tsm.read_outblob(entry))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reading.done()
    tsm.provider.stop()
    with pytest.raises(SyscallError) as caught:
        await reading
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        pytest.param(SyscallError(errno.EBUSY), errno.EBUSY, id="rule"),
        pytest.param(pyfuse3.FUSEError(errno.ENXIO), errno.ENXIO, id="fuse"),
        pytest.param(ZeroDivisionError(), errno.EIO, id="defect"),
        pytest.param(OSError(errno.ENOSPC, "full"), errno.EIO, id="foreign-oserror"),
    ],
)
async def test_boundary_answers_every_exception(raised: Exception, answer: int) -> None:
    @answered
    async def handler() -> None:
        raise raised

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handler()
    assert caught.value.errno == answer


async def test_boundary_lets_cancellation_pass() -> None:
    @answered
    async def handler() -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(handler())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@given(JSON | FAULT_LIKE)
def test_any_json_is_a_fault_or_refused(value: object) -> None:
    try:
        fault = Fault.from_json(value)
    except FaultSpecError:
        return
    assert Fault.from_json(fault.to_json()) == fault


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_has_a_plain_form(kind: FaultKind) -> None:
    queue = FaultQueue()
    queue.replace([{"kind": kind.value}])
    assert queue.take(kind) == Fault(kind, 0)
    assert queue.take(kind) is None


def test_fault_list_is_bounded() -> None:
    queue = FaultQueue()
    with pytest.raises(FaultSpecError):
        queue.replace([{"kind": "busy"}] * (MAX_FAULTS + 1))
