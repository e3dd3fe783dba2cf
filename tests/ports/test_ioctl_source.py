"""The quote ioctl of vendor kernels, when host or kernel go wrong."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.guest_device import (
    HOST_ERROR,
    IN_FLIGHT,
    UNAVAILABLE,
    GuestKernel,
    MockGuestDevice,
)
from mocktee.pki import MockPki
from mocktee.qgs import MockQgs
from mocktee.td import TdState
from tdx.errors import (
    DeviceBusyError,
    DeviceHostError,
    GuestDeviceError,
    QgsProtocolError,
    QuoteFormatError,
    TdxError,
)
from tdx.guest_device import DeviceAbi, LinuxGuestDevice
from tdx.ioctl_source import IoctlQuoteSource
from tdx.report_data import ReportData
from tests.ports.fake_guest_device import FakeGuestDevice

PKI = MockPki.create()
NODE = Path(os.devnull)
DATA = ReportData(bytes(range(64)))
QUOTE_ABIS = [abi for abi in DeviceAbi if abi is not DeviceAbi.MAINLINE]


def on_ioctl(device: MockGuestDevice) -> IoctlQuoteSource:
    abi = DeviceAbi(device.kernel.value)
    return IoctlQuoteSource(LinuxGuestDevice(NODE, abi, ioctl=device.ioctl))


@pytest.fixture(params=QUOTE_ABIS)
def device(request: pytest.FixtureRequest) -> MockGuestDevice:
    td = TdState.booted()
    return MockGuestDevice(td, MockQgs(PKI, td), GuestKernel(request.param.value))


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (IN_FLIGHT, DeviceBusyError, "in flight"),
        (HOST_ERROR, DeviceHostError, "reported an error"),
        (UNAVAILABLE, DeviceHostError, "not available"),
        (7, DeviceHostError, "0x7"),
    ],
)
def test_a_status_of_the_host(
    device: MockGuestDevice, status: int, kind: type[GuestDeviceError], words: str
) -> None:
    device.statuses.append(status)
    with pytest.raises(kind, match=words):
        on_ioctl(device).take(DATA)
    assert on_ioctl(device).take(DATA).body.report_data == DATA.value


@pytest.mark.parametrize("size", [0, 16384 - 23, 2**32 - 1])
def test_a_size_outside_the_buffer(device: MockGuestDevice, size: int) -> None:
    device.sizes.append(size)
    with pytest.raises(DeviceHostError, match=f"got {size}"):
        on_ioctl(device).take(DATA)


@pytest.mark.parametrize("size", [1, 700])
def test_a_size_that_cuts_the_answer(device: MockGuestDevice, size: int) -> None:
    device.sizes.append(size)
    with pytest.raises((QgsProtocolError, QuoteFormatError)):
        on_ioctl(device).take(DATA)


def test_busy_as_a_return_value(device: MockGuestDevice) -> None:
    device.results.append(errno.EBUSY)
    with pytest.raises(DeviceBusyError, match="EBUSY"):
        on_ioctl(device).take(DATA)
    device.results.append(-1)
    with pytest.raises(GuestDeviceError):
        on_ioctl(device).take(DATA)


def test_an_errno_of_the_command(device: MockGuestDevice) -> None:
    device.errnos.extend([errno.EINTR])
    with pytest.raises(DeviceBusyError, match="EINTR"):
        on_ioctl(device).take(DATA)


def test_a_kernel_of_another_abi_only_says_no(device: MockGuestDevice) -> None:
    others = [abi for abi in QUOTE_ABIS if abi.value != device.kernel.value]
    for abi in others:
        source = IoctlQuoteSource(LinuxGuestDevice(NODE, abi, ioctl=device.ioctl))
        with pytest.raises(GuestDeviceError, match="ENOTTY"):
            source.take(DATA)


@dataclass
class Host:
    """A device whose host writes whatever it likes over the buffer."""

    abi: DeviceAbi
    written: bytes
    at: int

    def describe(self) -> str:
        return "/fake/tdx_guest"

    def td_report(self, report_data: bytes) -> bytes:
        return FakeGuestDevice().td_report(report_data)

    def extend_rtmr(self, rtmr: int, digest: bytes) -> None:
        raise AssertionError("nobody asked for that")

    def get_quote(self, buffer: bytearray) -> None:
        end = min(len(buffer), self.at + len(self.written))
        buffer[self.at : end] = self.written[: end - self.at]


@given(
    st.sampled_from(QUOTE_ABIS),
    st.binary(max_size=120),
    st.sampled_from([0, 8, 16, 20, 24, 28, 44, 16380]),
)
def test_whatever_the_host_writes_only_our_errors_come_of_it(
    abi: DeviceAbi, written: bytes, at: int
) -> None:
    with pytest.raises(TdxError):
        IoctlQuoteSource(Host(abi, written, at)).take(DATA)
