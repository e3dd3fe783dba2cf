"""The read protocol under faults: what is retried, what is refused, what is left behind."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from tdx.errors import (
    QuoteBindingError,
    QuoteFormatError,
    QuoteQueueError,
    QuoteTimeoutError,
    TsmBusyError,
    TsmError,
    TsmGenerationError,
    TsmHostError,
    TsmIoError,
    TsmProviderError,
    TsmUnavailableError,
)
from tdx.quote_reader import MAX_WAITING, QuoteReader
from tdx.report_data import ReportData
from tdx.tsm_report import TsmQuoteSource
from tests.ports.fake_tsm import Entry, FakeTsm, formed_quote

DATA = ReportData(bytes(range(64)))


class Pauses:
    """Records the pauses a reader asks for and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def reader_of(tsm: FakeTsm, pauses: Pauses | None = None) -> QuoteReader:
    source = TsmQuoteSource(tsm, sleep=lambda _seconds: None)
    return QuoteReader(source, pause=pauses or Pauses())


def assert_clean(tsm: FakeTsm) -> None:
    assert tsm.table == {}


@pytest.mark.parametrize(
    ("operation", "code", "kind", "hint"),
    [
        ("mkdir", errno.ENOENT, TsmUnavailableError, "mount configfs"),
        ("mkdir", errno.ENXIO, TsmUnavailableError, "no provider"),
        ("mkdir", errno.EACCES, TsmUnavailableError, "run as root"),
        ("mkdir", errno.EPERM, TsmUnavailableError, "run as root"),
        ("mkdir", errno.EROFS, TsmUnavailableError, "read-only"),
        ("mkdir", errno.ENOMEM, TsmIoError, ""),
        ("read provider", errno.ENXIO, TsmUnavailableError, "no provider"),
        ("read generation", errno.EIO, TsmHostError, "host"),
        ("write inblob", errno.EFBIG, TsmHostError, ""),
        ("read outblob", errno.ENXIO, TsmUnavailableError, "no provider"),
        ("read outblob", errno.EINVAL, TsmIoError, "64 bytes"),
    ],
)
async def test_errno_becomes_an_error_with_a_hint(
    operation: str, code: int, kind: type[TsmError], hint: str
) -> None:
    tsm = FakeTsm()
    tsm.fail(operation, code, times=9)
    async with reader_of(tsm) as reader:
        with pytest.raises(kind, match=errno.errorcode[code]) as caught:
            await reader.quote(DATA)
    assert hint in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)
    assert_clean(tsm)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EINTR, errno.ETIMEDOUT])
async def test_transient_errnos_are_retried_with_new_entries(code: int) -> None:
    tsm, pauses = FakeTsm(), Pauses()
    tsm.fail("read outblob", code, times=6)
    async with reader_of(tsm, pauses) as reader:
        assert await reader.quote(DATA) == formed_quote(DATA.value)
    assert pauses.seconds == [0.5, 1, 2, 4, 8, 8]
    assert tsm.calls["mkdir"] == 7
    assert reader.busy_tries == (6 if code == errno.EBUSY else 0)
    assert reader.quotes_taken == 1
    assert_clean(tsm)


async def test_a_host_failure_is_retried_once() -> None:
    tsm = FakeTsm()
    tsm.fail("read outblob", errno.EIO)
    async with reader_of(tsm) as reader:
        await reader.quote(DATA)
        tsm.fail("read outblob", errno.EIO, times=2)
        with pytest.raises(TsmHostError, match="EIO"):
            await reader.quote(DATA)
    assert_clean(tsm)


async def test_the_deadline_names_the_last_cause() -> None:
    tsm = FakeTsm()
    tsm.fail("read outblob", errno.EBUSY, times=10_000)

    async def pause(_seconds: float) -> None:
        await asyncio.sleep(0.001)

    async with QuoteReader(TsmQuoteSource(tsm), pause=pause) as reader:
        with pytest.raises(QuoteTimeoutError, match="EBUSY") as caught:
            await reader.quote(DATA, timeout_s=0.05)
    assert isinstance(caught.value.__cause__, TsmBusyError)
    assert_clean(tsm)


@pytest.mark.parametrize("size", [0, 1, 1019], ids=["empty", "one byte", "one short"])
async def test_empty_and_short_quotes_are_host_failures(size: int) -> None:
    tsm = FakeTsm(answer=lambda inblob: formed_quote(inblob)[:size])
    async with reader_of(tsm) as reader:
        with pytest.raises(TsmHostError, match=f"got {size} ") as caught:
            await reader.quote(DATA)
    assert "quote generation service" in caught.value.hint
    assert reader.quotes_taken == 0
    assert_clean(tsm)


async def test_a_quote_for_other_report_data_is_refused() -> None:
    tsm = FakeTsm(answer=lambda _inblob: formed_quote(bytes(64)))
    async with reader_of(tsm) as reader:
        with pytest.raises(QuoteBindingError, match="another or an older"):
            await reader.quote(DATA)
    assert_clean(tsm)


async def test_bytes_that_are_no_quote_are_refused() -> None:
    tsm = FakeTsm(answer=lambda _inblob: bytes(32 * 1024))
    async with reader_of(tsm) as reader:
        with pytest.raises(QuoteFormatError, match="version"):
            await reader.quote(DATA)
    assert_clean(tsm)


async def test_bytes_after_the_signature_are_cut() -> None:
    tsm = FakeTsm(answer=lambda inblob: formed_quote(inblob) + b"guest memory" * 99)
    async with reader_of(tsm) as reader:
        assert await reader.quote(DATA) == formed_quote(DATA.value)


async def test_another_provider_is_refused_by_name() -> None:
    tsm = FakeTsm(provider=b"sev_guest\n")
    async with reader_of(tsm) as reader:
        with pytest.raises(TsmProviderError, match="'tdx_guest', got 'sev_guest'"):
            await reader.quote(DATA)
    assert_clean(tsm)


async def test_a_missing_line_feed_after_the_provider_is_accepted() -> None:
    async with reader_of(FakeTsm(provider=b"tdx_guest")) as reader:
        assert await reader.quote(DATA)


def rival_store(_name: str, entry: Entry) -> None:
    entry.inblob = bytes(64)
    entry.generation += 1


async def test_a_rival_store_during_the_quote_is_seen() -> None:
    tsm = FakeTsm(making=rival_store)
    async with reader_of(tsm) as reader:
        with pytest.raises(TsmGenerationError, match="expected generation 1, got '2'"):
            await reader.quote(DATA)
    assert_clean(tsm)


@pytest.mark.parametrize(
    "text",
    [lambda _g: b"0\n", lambda g: b"%d\n" % (2 * g), lambda _g: b"many\n", lambda _g: b"7\n"],
    ids=["stuck", "jumping by two", "not a number", "not new"],
)
async def test_a_generation_that_does_not_fit_our_writes_is_refused(text: object) -> None:
    tsm = FakeTsm(generation_text=text)  # type: ignore[arg-type]
    async with reader_of(tsm) as reader:
        with pytest.raises(TsmGenerationError):
            await reader.quote(DATA)
    assert_clean(tsm)


async def test_an_entry_that_others_removed_is_named() -> None:
    tsm = FakeTsm()

    def remove(name: str, _entry: Entry) -> None:
        del tsm.table[name]

    tsm.making = remove
    async with reader_of(tsm) as reader:
        with pytest.raises(TsmIoError, match="vanished") as caught:
            await reader.quote(DATA)
    assert "removes entries" in caught.value.hint


async def test_taken_names_are_tried_again_with_others() -> None:
    tsm = FakeTsm()
    tsm.fail("mkdir", errno.EEXIST, times=3)
    async with reader_of(tsm) as reader:
        assert await reader.quote(DATA)
    assert_clean(tsm)


async def test_rmdir_is_repeated_after_a_signal() -> None:
    tsm = FakeTsm()
    tsm.fail("rmdir", errno.EINTR, times=2)
    async with reader_of(tsm) as reader:
        assert await reader.quote(DATA)
    assert_clean(tsm)


async def test_equal_requests_share_one_quote_and_others_wait_their_turn() -> None:
    tsm = FakeTsm()
    other = ReportData.padded(b"other")
    async with reader_of(tsm) as reader:
        quotes = await asyncio.gather(*(reader.quote(d) for d in [DATA, other] * 10))
        assert tsm.quotes_made == 2
        assert reader.quotes_taken == 2
        assert set(quotes) == {formed_quote(DATA.value), formed_quote(other.value)}
        assert tsm.most_at_once == 1
        await reader.quote(DATA)
        assert tsm.quotes_made == 3


async def test_a_cancelled_caller_leaves_the_others_their_quote() -> None:
    release = threading.Event()
    tsm = FakeTsm(making=lambda _name, _entry: _wait(release))
    async with reader_of(tsm) as reader:
        first = asyncio.create_task(reader.quote(DATA))
        second = asyncio.create_task(reader.quote(DATA))
        await asyncio.to_thread(_wait, tsm.reading)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        release.set()
        assert await second == formed_quote(DATA.value)
    assert tsm.quotes_made == 1


async def test_after_cancellation_the_thread_still_removes_its_entry() -> None:
    release = threading.Event()
    tsm = FakeTsm(making=lambda _name, _entry: _wait(release))
    reader = reader_of(tsm)
    task = asyncio.create_task(reader.quote(DATA))
    await asyncio.to_thread(_wait, tsm.reading)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(tsm.table) == 1
    release.set()
    await reader.aclose()
    assert_clean(tsm)


async def test_the_queue_is_bounded() -> None:
    release = threading.Event()
    tsm = FakeTsm(making=lambda _name, _entry: _wait(release))
    reader = reader_of(tsm)
    tasks = [
        asyncio.create_task(reader.quote(ReportData.padded(b"%d" % n))) for n in range(MAX_WAITING)
    ]
    await asyncio.to_thread(_wait, tsm.reading)
    with pytest.raises(QuoteQueueError, match="already waited for"):
        await reader.quote(DATA)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    release.set()
    await reader.aclose()
    assert_clean(tsm)


async def test_signals_are_blocked_in_the_reading_thread() -> None:
    masks: list[object] = []

    def making(_name: str, _entry: Entry) -> None:
        import signal

        masks.append(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))

    async with reader_of(FakeTsm(making=making)) as reader:
        await reader.quote(DATA)
    assert masks == [True]


@pytest.mark.parametrize(("size", "ok"), [(0, True), (48, True), (64, True), (65, False)])
def test_report_data_is_padded_and_never_cut(size: int, ok: bool) -> None:
    if ok:
        assert ReportData.padded(b"x" * size).value == b"x" * size + bytes(64 - size)
    else:
        with pytest.raises(ValueError, match="65 bytes"):
            ReportData.padded(b"x" * size)


def _wait(event: threading.Event) -> None:
    assert event.wait(30)
