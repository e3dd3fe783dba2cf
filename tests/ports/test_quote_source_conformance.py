"""Every way to a quote does the same: one suite for configfs-tsm, the QGS and the quote ioctls.

On a TD the same suite holds for whichever way its kernel has.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mocktee.guest_device import GuestKernel, MockGuestDevice
from mocktee.pki import MockPki
from mocktee.qgs import MockQgs
from mocktee.qgs_server import MockQgsServer, QgsFault
from mocktee.quotes import build_quote_v4
from mocktee.td import TdState
from mocktee.tsm.process import TsmProcess
from tdx.errors import (
    GuestDeviceError,
    QgsError,
    QgsProtocolError,
    QgsRefusedError,
    QgsTimeoutError,
    QgsUnreachableError,
    QuoteBindingError,
    QuoteFormatError,
    QuoteTimeoutError,
)
from tdx.guest_device import DeviceAbi, LinuxGuestDevice
from tdx.ioctl_source import IoctlQuoteSource
from tdx.qgs import QgsAddress
from tdx.qgs_source import QgsQuoteSource
from tdx.quote_reader import QuoteReader
from tdx.quote_source import QuoteSource
from tdx.report_data import ReportData
from tdx.tsm import LinuxTsm
from tdx.tsm_report import TsmQuoteSource
from tests.ports.conftest import KERNEL_REPORT_PATH
from tests.ports.fake_guest_device import FakeGuestDevice
from tests.ports.fake_tsm import FakeTsm

pytestmark = pytest.mark.asyncio(loop_scope="module")

PKI = MockPki.create()
NODE = Path(os.devnull)
DATA = ReportData(bytes(range(64)))
OTHER = ReportData(bytes(64))
QUOTE_ABIS = [abi for abi in DeviceAbi if abi is not DeviceAbi.MAINLINE]
KINDS = [
    "fake-tsm",
    "tsm" if KERNEL_REPORT_PATH is None else "kernel-tsm",
    "qgs",
    *(f"fake-{abi.value}" for abi in QUOTE_ABIS),
    *(abi.value for abi in QUOTE_ABIS),
]


def on_ioctl(device: MockGuestDevice) -> IoctlQuoteSource:
    abi = DeviceAbi(device.kernel.value)
    return IoctlQuoteSource(LinuxGuestDevice(NODE, abi, ioctl=device.ioctl))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def qgs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MockQgsServer]:
    path = tmp_path_factory.mktemp("qgs") / "qgs.sock"
    async with MockQgsServer.start(path, MockQgs(PKI, TdState.booted())) as server:
        yield server


def source_on(server: MockQgsServer, seconds: float = 20.0) -> QgsQuoteSource:
    return QgsQuoteSource(FakeGuestDevice(), QgsAddress(str(server.path)), seconds=seconds)


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest) -> Iterator[QuoteSource]:
    kind: str = request.param
    if kind == "fake-tsm":
        yield TsmQuoteSource(FakeTsm())
    elif kind == "tsm":
        mock: TsmProcess = request.getfixturevalue("mock_tsm")
        yield TsmQuoteSource(LinuxTsm(mock.report_root))
        assert os.listdir(mock.report_root) == []
    elif kind == "kernel-tsm":
        yield TsmQuoteSource(LinuxTsm(Path(str(KERNEL_REPORT_PATH))))
    elif kind == "qgs":
        yield source_on(request.getfixturevalue("qgs"))
    elif kind.startswith("fake-"):
        yield IoctlQuoteSource(FakeGuestDevice(DeviceAbi(kind.removeprefix("fake-"))))
    else:
        td = TdState.booted()
        yield on_ioctl(MockGuestDevice(td, MockQgs(PKI, td), GuestKernel(kind)))


async def test_a_quote_is_bound_to_the_report_data(source: QuoteSource) -> None:
    for data in (DATA, OTHER, DATA):
        quote = await asyncio.to_thread(source.take, data)
        assert quote.body.report_data == data.value


async def test_the_reader_shares_and_serialises_any_source(source: QuoteSource) -> None:
    async with QuoteReader(source) as reader:
        quotes = await asyncio.gather(*(reader.quote(data) for data in [DATA, OTHER] * 5))
        assert len(set(quotes)) == 2
        assert reader.quotes_taken == 2


async def test_a_source_says_where_it_asks(source: QuoteSource) -> None:
    assert source.describe()


# The QGS, when it goes wrong.

GOOD = [QgsFault.TRICKLE, QgsFault.WITH_ID]
BAD: dict[QgsFault, tuple[type[Exception], str]] = {
    QgsFault.CLOSED: (QgsProtocolError, "the end after 0"),
    QgsFault.HALF_PREFIX: (QgsProtocolError, "the end after 2"),
    QgsFault.HALF_ANSWER: (QgsProtocolError, "the end after"),
    QgsFault.HUGE: (QgsProtocolError, "frame length"),
    QgsFault.ZERO: (QgsProtocolError, "frame length"),
    QgsFault.ERROR_CODE: (QgsRefusedError, "0x12002 \\(out of memory\\)"),
    QgsFault.UNKNOWN_CODE: (QgsRefusedError, "0xdead \\(unknown\\)"),
    QgsFault.WRONG_MAJOR: (QgsProtocolError, "major version"),
    QgsFault.WRONG_TYPE: (QgsProtocolError, "type"),
    QgsFault.WRONG_SIZE: (QgsProtocolError, "size"),
    QgsFault.WRONG_INNER: (QgsProtocolError, "inner sizes"),
    QgsFault.EMPTY_QUOTE: (QuoteFormatError, "header"),
    QgsFault.OTHER_REPORT_DATA: (QuoteBindingError, "another or an older"),
}


@pytest.mark.parametrize("fault", GOOD)
async def test_unusual_but_good_answers(qgs: MockQgsServer, fault: QgsFault) -> None:
    qgs.faults.append(fault)
    quote = await asyncio.to_thread(source_on(qgs).take, DATA)
    assert quote.body.report_data == DATA.value
    assert not qgs.faults


@pytest.mark.parametrize("fault", BAD)
async def test_bad_answers_are_refused_by_name(qgs: MockQgsServer, fault: QgsFault) -> None:
    kind, words = BAD[fault]
    qgs.other_quote = build_quote_v4(PKI, OTHER.value, TdState.booted())
    qgs.faults.append(fault)
    with pytest.raises(kind, match=words):
        await asyncio.to_thread(source_on(qgs).take, DATA)


async def test_every_fault_is_tried() -> None:
    assert {*GOOD, *BAD, QgsFault.SILENT} == set(QgsFault)


async def test_a_silent_service_costs_the_configured_time(qgs: MockQgsServer) -> None:
    qgs.faults.append(QgsFault.SILENT)
    with pytest.raises(QgsTimeoutError, match=r"within 0\.05 s"):
        await asyncio.to_thread(source_on(qgs, 0.05).take, DATA)


async def test_a_passing_failure_is_tried_again(qgs: MockQgsServer) -> None:
    async def pause(_seconds: float) -> None:
        return

    async with QuoteReader(source_on(qgs), pause=pause) as reader:
        qgs.faults.append(QgsFault.ERROR_CODE)
        assert await reader.quote(DATA)
        qgs.faults.extend([QgsFault.ERROR_CODE] * 2)
        with pytest.raises(QgsRefusedError):
            await reader.quote(DATA)
    assert not qgs.faults


async def test_the_callers_deadline_names_the_service(qgs: MockQgsServer) -> None:
    qgs.faults.append(QgsFault.SILENT)
    async with QuoteReader(source_on(qgs, 0.5)) as reader:
        with pytest.raises(QuoteTimeoutError, match="unix:/"):
            await reader.quote(DATA, timeout_s=0.05)


async def test_nobody_listens(tmp_path: Path) -> None:
    source = QgsQuoteSource(FakeGuestDevice(), QgsAddress(str(tmp_path / "absent")))
    with pytest.raises(QgsUnreachableError, match="ENOENT"):
        await asyncio.to_thread(source.take, DATA)


async def test_without_a_report_nobody_is_asked(qgs: MockQgsServer) -> None:
    before = qgs.connections
    device = FakeGuestDevice(errnos=[errno.ENOTTY])
    with pytest.raises(GuestDeviceError, match="ENOTTY"):
        await asyncio.to_thread(QgsQuoteSource(device, QgsAddress(str(qgs.path))).take, DATA)
    assert qgs.connections == before


async def test_vsock_is_a_stream_to_cid_and_port() -> None:
    # No machine has a listener at this port of its own CID; how connecting fails is the kernel's.
    source = QgsQuoteSource(FakeGuestDevice(), QgsAddress((1, 2**32 - 2)), seconds=0.2)
    assert source.describe() == "vsock:1:4294967294"
    with pytest.raises(QgsError):
        await asyncio.to_thread(source.take, DATA)
