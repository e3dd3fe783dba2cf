"""The log of a running guest: real files, a full file system, one event loop and one thread."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest

from receipts import (
    DOMAIN,
    OPERATION,
    Access,
    Chain,
    Checkpoint,
    Gap,
    LogSettings,
    ReceiptLog,
    ReceiptsDamagedError,
    ReceiptsUnavailableError,
    Stop,
    compare_checkpoints,
    examine_chain,
    noting,
    open_log,
    read_directory,
)
from receipts.log import QUEUE
from receipts.record import Caller, Subject
from receipts.scribe import Scribe
from receipts.sink import asked_by
from tests.rules.memory_store import MemoryStore
from tests.rules.receipt_samples import RELEASE
from tests.services import small_filesystem


class Registers:
    """Takes measured events, or answers that it cannot."""

    def __init__(self, answer: int | Exception = 0) -> None:
        self.answer = answer
        self.events: list[str] = []

    async def __call__(self, domain: str, operation: str, content: str) -> int:
        assert (domain, operation) == (DOMAIN, OPERATION)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == 0:
            self.events.append(content)
        return self.answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "receipts"


small = small_filesystem.small


def _chain(folder: Path) -> Chain:
    return examine_chain(read_directory(folder))


async def test_receipts_are_there_when_the_log_was_closed(folder: Path) -> None:
    async with open_log(folder, LogSettings()) as log:
        await asyncio.gather(*(log.record(RELEASE) for _ in range(300)))
        log.note(RELEASE)
    chain = _chain(folder)
    assert chain.holds and chain.lost == 0
    assert [receipt.body for receipt in chain.receipts[1:]] == [RELEASE] * 301


async def test_directory_and_files_are_the_guests_alone(folder: Path) -> None:
    async with open_log(folder, LogSettings()):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        with pytest.raises(ReceiptsDamagedError, match="another process"):
            async with open_log(folder, LogSettings()):
                pass


@pytest.mark.parametrize("what", ["open to others", "a link", "a file"])
async def test_a_place_that_is_not_ours_alone_is_refused(folder: Path, what: str) -> None:
    folder.parent.mkdir()
    if what == "open to others":
        folder.mkdir()
        folder.chmod(0o755)
    elif what == "a link":
        (folder.parent / "other").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "other")
    else:
        folder.touch(0o600)
    with pytest.raises(ReceiptsDamagedError):
        async with open_log(folder, LogSettings()):
            pass


async def test_a_required_receipt_is_in_the_file_before_its_caller_goes_on(folder: Path) -> None:
    async with open_log(folder, LogSettings(required=True)) as log:
        await log.record(RELEASE)
        assert _chain(folder).receipts[-1].body == RELEASE


async def _fill(log: ReceiptLog) -> None:
    for _ in range(400):
        await log.record(RELEASE)
        await log.flush()


async def test_a_full_file_system_refuses_releases_where_receipts_are_required(
    small: Path,
) -> None:
    async with open_log(small / "receipts", LogSettings(required=True)) as log:
        with pytest.raises(ReceiptsUnavailableError, match="No space left"):
            await _fill(log)
        assert log.counts().failing
        with pytest.raises(ReceiptsUnavailableError):
            await log.record(RELEASE)
        before = _chain(small / "receipts")
        assert before.holds and not before.lost
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        await log.record(RELEASE)
        assert not log.counts().failing
    after = _chain(small / "receipts")
    assert after.holds and after.lost == log.counts().lost >= 2


async def test_a_full_file_system_leaves_a_gap_where_they_are_not(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_log(small / "receipts", LogSettings()) as log:
        with pytest.raises(ReceiptsUnavailableError):  # from asking for the head
            await _fill(log)
        for _ in range(10):
            await log.record(RELEASE)
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        log.note(RELEASE)
        await log.flush()
        chain = _chain(small / "receipts")
        assert chain.holds and chain.lost == log.counts().lost >= 1
        assert any(isinstance(receipt.body, Gap) for receipt in chain.receipts)


async def test_what_does_not_fit_into_the_queue_is_counted() -> None:
    """The writing thread stands still meanwhile, as on a hung file system."""
    go_on = threading.Event()

    class Slow(MemoryStore):
        def append(self, data: bytes) -> None:
            go_on.wait()
            super().append(data)

    store = Slow()
    scribe = Scribe(store, segment_receipts=10_000, segments=2)
    scribe.open(required=False)
    log = ReceiptLog(scribe, LogSettings())
    log.start()
    for _ in range(3 * QUEUE):
        log.note(RELEASE)
    assert log.counts().lost >= QUEUE
    with pytest.raises(ReceiptsUnavailableError, match="wait to be written"):
        await log.flush()
    go_on.set()
    await log.close()
    chain = store.chain()
    written = sum(isinstance(receipt.body, Access) for receipt in chain.receipts)
    assert chain.holds and written + chain.lost == 3 * QUEUE + 1


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        pytest.param(0, "measured", id="measured"),
        pytest.param(1, "not-supported", id="no registers"),
        pytest.param(2, "not-enabled", id="switched off"),
        pytest.param(7, "failed", id="unknown answer"),
        pytest.param(RuntimeError("agent away"), "failed", id="agent away"),
    ],
)
async def test_how_measuring_went_is_in_the_chain(
    folder: Path, answer: int | Exception, result: str
) -> None:
    registers = Registers(answer)
    async with open_log(folder, LogSettings()) as log:
        await log.record(RELEASE)
        made = await log.checkpoint(registers)
    chain = _chain(folder)
    assert chain.holds and chain.receipts[-1].body == made
    assert (made.number, made.sequence, made.result) == (1, 1, result)
    assert compare_checkpoints(chain, registers.events).matched == len(registers.events)


async def test_checkpoints_come_by_themselves_and_at_an_orderly_end(folder: Path) -> None:
    registers = Registers()
    async with open_log(folder, LogSettings(checkpoint_every=5)) as log:
        keeping = asyncio.create_task(log.keep_checkpoints(registers))
        while log.counts().checkpoints < 3:
            await log.record(RELEASE)
            await asyncio.sleep(0)
        keeping.cancel()
        await asyncio.wait([keeping])
        await log.stop(registers)
    chain = _chain(folder)
    compared = compare_checkpoints(chain, registers.events)
    assert chain.holds and not compared.problems and compared.matched >= 4
    last = chain.receipts[-1].body
    assert isinstance(last, Checkpoint) and chain.receipts[last.sequence].body == Stop()


async def test_a_truncated_chain_is_found_by_its_checkpoint(folder: Path) -> None:
    registers = Registers()
    async with open_log(folder, LogSettings()) as log:
        for _ in range(5):
            await log.record(RELEASE)
        await log.checkpoint(registers)
    short = examine_chain(read_directory(folder)[:-4])
    assert short.holds  # nothing in it tells
    assert compare_checkpoints(short, registers.events).problems


async def test_a_receipt_names_who_asked_and_how_it_went(folder: Path) -> None:
    caller = Caller("ttrpc", os.getpid(), 0)
    subject = Subject(resource="kbs:///default/key/1")
    hold = asyncio.Event()

    async def hang(log: ReceiptLog) -> None:
        async with noting(log, "release", subject, lambda _: ("failed", "")):
            await hold.wait()

    async with open_log(folder, LogSettings()) as log:
        with asked_by(caller):
            async with noting(log, "release", subject, lambda _: ("failed", "")):
                pass
            with pytest.raises(ValueError, match="no"):
                async with noting(log, "unseal", subject, lambda e: ("refused", str(e))):
                    raise ValueError("no")
        hanging = asyncio.create_task(hang(log))
        await asyncio.sleep(0)
        hanging.cancel()
        await asyncio.wait([hanging])
    found = [receipt.body for receipt in _chain(folder).receipts[1:]]
    assert found == [
        Access("release", "allowed", caller, subject),
        Access("unseal", "refused", caller, subject, "no"),
        Access("release", "cancelled", Caller(), subject),
    ]


async def test_nothing_is_closed_under_the_thread_that_writes() -> None:
    go_on, writing = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def append(self, data: bytes) -> None:
            writing.set()
            go_on.wait()
            super().append(data)

    store = Slow()
    scribe = Scribe(store, segment_receipts=10, segments=2)
    scribe.open(required=False)
    log = ReceiptLog(scribe, LogSettings())
    log.start()
    log.note(RELEASE)
    await asyncio.to_thread(writing.wait)
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert len(store.chain().receipts) == 2


async def test_reading_goes_on_while_files_come_and_go(folder: Path) -> None:
    async with open_log(folder, LogSettings(segment_receipts=3, segments=2)) as log:
        for _ in range(60):
            await log.record(RELEASE)
            chain = examine_chain(await asyncio.to_thread(read_directory, folder))
            assert chain.holds
        await log.flush()
        assert log.counts().dropped > 0
    assert len(list(folder.glob("*.jsonl"))) == 2
