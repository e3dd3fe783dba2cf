"""What configfs-tsm does, in the kernel's terms: one suite for every implementation of the port.

Source: Linux Documentation/ABI/testing/configfs-tsm-report, drivers/virt/coco/guest/report.c,
fs/configfs/file.c. On a TD the same suite holds for the kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mocktee.tsm.process import TsmProcess
from tdx.quote import parse_quote
from tdx.quote_reader import QuoteReader
from tdx.report_data import ReportData
from tdx.tsm import LinuxTsm, TsmFilesystem
from tdx.tsm_report import TsmQuoteSource, read_provider, sweep_entries
from tests.ports.conftest import KERNEL_REPORT_PATH, implementations
from tests.ports.fake_tsm import FakeTsm

DATA = bytes(range(64))
LIMIT = 1 << 20


@pytest.fixture(params=implementations(KERNEL_REPORT_PATH, "mock"))
def tsm(request: pytest.FixtureRequest) -> TsmFilesystem:
    """The in-process fake, and system calls on the mounted mock or on the kernel."""
    if request.param == "fake":
        return FakeTsm()
    if request.param == "kernel":
        return LinuxTsm(Path(str(KERNEL_REPORT_PATH)))
    mock: TsmProcess = request.getfixturevalue("mock_tsm")
    return LinuxTsm(mock.report_root)


@pytest.fixture
def entry(tsm: TsmFilesystem) -> Iterator[str]:
    tsm.mkdir("entry-1")
    yield "entry-1"
    if "entry-1" in tsm.entries():
        tsm.rmdir("entry-1")


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def report_data_of(quote: bytes) -> bytes:
    return parse_quote(quote).body.report_data


def generation(tsm: TsmFilesystem, entry: str) -> bytes:
    return tsm.read(entry, "generation", LIMIT)


def test_new_entry_has_generation_zero_and_the_provider(tsm: TsmFilesystem, entry: str) -> None:
    assert generation(tsm, entry) == b"0\n"
    assert tsm.read(entry, "provider", LIMIT) == b"tdx_guest\n"
    assert entry in tsm.entries()


def test_quote_answers_the_stored_report_data(tsm: TsmFilesystem, entry: str) -> None:
    assert tsm.write(entry, "inblob", DATA) == 64
    assert generation(tsm, entry) == b"1\n"
    assert report_data_of(tsm.read(entry, "outblob", LIMIT)) == DATA
    assert generation(tsm, entry) == b"1\n"


def test_outblob_is_cached_until_the_next_store(tsm: TsmFilesystem, entry: str) -> None:
    tsm.write(entry, "inblob", DATA)
    first = tsm.read(entry, "outblob", LIMIT)
    assert tsm.read(entry, "outblob", LIMIT) == first
    tsm.write(entry, "inblob", DATA[::-1])
    assert generation(tsm, entry) == b"2\n"
    assert report_data_of(tsm.read(entry, "outblob", LIMIT)) == DATA[::-1]


def test_entries_do_not_share_state(tsm: TsmFilesystem, entry: str) -> None:
    tsm.mkdir("entry-2")
    try:
        tsm.write(entry, "inblob", DATA)
        assert generation(tsm, "entry-2") == b"0\n"
        with refused(errno.EINVAL):
            tsm.read("entry-2", "outblob", LIMIT)
    finally:
        tsm.rmdir("entry-2")


def test_outblob_before_inblob_is_invalid(tsm: TsmFilesystem, entry: str) -> None:
    with refused(errno.EINVAL):
        tsm.read(entry, "outblob", LIMIT)


def test_short_inblob_is_taken_and_refused_only_at_the_quote(
    tsm: TsmFilesystem, entry: str
) -> None:
    assert tsm.write(entry, "inblob", DATA[:63]) == 63
    assert generation(tsm, entry) == b"1\n"
    with refused(errno.EINVAL):
        tsm.read(entry, "outblob", LIMIT)


def test_write_past_64_bytes_is_too_big_and_stores_nothing_usable(
    tsm: TsmFilesystem, entry: str
) -> None:
    with refused(errno.EFBIG):
        tsm.write(entry, "inblob", DATA + b"x")
    assert generation(tsm, entry) == b"1\n"
    with refused(errno.EINVAL):
        tsm.read(entry, "outblob", LIMIT)


@pytest.mark.parametrize("attribute", ["outblob", "generation", "provider"])
def test_read_only_attributes_refuse_writing(
    tsm: TsmFilesystem, entry: str, attribute: str
) -> None:
    with refused(errno.EACCES):
        tsm.write(entry, attribute, b"1")


def test_inblob_refuses_reading(tsm: TsmFilesystem, entry: str) -> None:
    with refused(errno.EACCES):
        tsm.read(entry, "inblob", LIMIT)


@pytest.mark.parametrize("attribute", ["auxblob", "manifestblob", "privlevel", "service_guid"])
def test_attributes_of_other_providers_are_absent(
    tsm: TsmFilesystem, entry: str, attribute: str
) -> None:
    with refused(errno.ENOENT):
        tsm.read(entry, attribute, LIMIT)


def test_name_taken(tsm: TsmFilesystem, entry: str) -> None:
    with refused(errno.EEXIST):
        tsm.mkdir(entry)


def test_name_too_long(tsm: TsmFilesystem) -> None:
    with refused(errno.ENAMETOOLONG):
        tsm.mkdir("n" * 256)


def test_removed_entry_is_gone(tsm: TsmFilesystem, entry: str) -> None:
    tsm.write(entry, "inblob", DATA)
    tsm.rmdir(entry)
    assert entry not in tsm.entries()
    for attempt in (
        lambda: tsm.rmdir(entry),
        lambda: tsm.write(entry, "inblob", DATA),
        lambda: tsm.read(entry, "outblob", LIMIT),
    ):
        with refused(errno.ENOENT):
            attempt()


def test_a_limit_of_the_reader_is_too_big_not_cut(tsm: TsmFilesystem, entry: str) -> None:
    tsm.write(entry, "inblob", DATA)
    size = len(tsm.read(entry, "outblob", LIMIT))
    assert len(tsm.read(entry, "outblob", size)) == size
    with refused(errno.EFBIG):
        tsm.read(entry, "outblob", size - 1)


async def test_reader_takes_a_quote_and_leaves_nothing(tsm: TsmFilesystem) -> None:
    before = tsm.entries()
    async with QuoteReader(TsmQuoteSource(tsm)) as reader:
        quote = await reader.quote(ReportData(DATA))
    assert report_data_of(quote) == DATA
    assert reader.quotes_taken == 1
    assert tsm.entries() == before


def test_provider_probe_leaves_nothing(tsm: TsmFilesystem) -> None:
    before = tsm.entries()
    assert read_provider(tsm) == "tdx_guest"
    assert tsm.entries() == before


def test_sweep_removes_only_entries_of_dead_processes_of_ours(tsm: TsmFilesystem) -> None:
    names = ("cguest-1-live", "cguest-2-dead", "cguest-x-odd", "cguest-3", "other.program")
    for name in names:
        tsm.mkdir(name)
    try:
        assert sweep_entries(tsm, alive=lambda pid: pid == 1) == ["cguest-2-dead"]
        assert set(names) - set(tsm.entries()) == {"cguest-2-dead"}
    finally:
        for name in set(names) & set(tsm.entries()):
            tsm.rmdir(name)
