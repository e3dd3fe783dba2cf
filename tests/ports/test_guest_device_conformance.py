"""What a TDX guest device does: one suite for the fake and for the Linux adapter.

The adapter runs over a stand-in for the system call; on a TD the same suite holds for the node.
Source: Linux drivers/virt/coco/tdx-guest/tdx-guest.c, Intel DCAP ``tdx_attest.c``.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mocktee.guest_device import GuestKernel, MockGuestDevice
from mocktee.pki import MockPki
from mocktee.qgs import MockQgs
from mocktee.td import TdState
from mocktee.tdreport import build_tdreport
from tdx.errors import (
    DeviceAbsentError,
    DeviceBusyError,
    DeviceHostError,
    GuestDeviceError,
    MeasurementBusyError,
    MeasurementError,
    MeasurementsAbsentError,
    ReportFormatError,
)
from tdx.guest_device import (
    COMMANDS,
    DEVICE_PATHS,
    DeviceAbi,
    LinuxGuestDevice,
    TdReportDevice,
    VendorDevice,
    find_guest_device,
    fresh_report,
)
from tdx.measurements import RegisterName
from tdx.report_data import ReportData
from tdx.report_registers import FIELDS, ReportRegisters
from tdx.tdreport import parse_tdreport
from tests.ports.conftest import KERNEL_GUEST_DEVICE, implementations
from tests.ports.fake_guest_device import FakeGuestDevice, formed_report
from tests.ports.syscalls import refused

PKI = MockPki.create()
NODE = Path(os.devnull)  # any character device; the system call on it is a stand-in
DATA = bytes(range(64))
DIGEST = hashlib.sha384(b"event").digest()
CONFIG_ID = bytes(range(48))

Maker = Callable[[DeviceAbi], VendorDevice]


def stand_in(abi: DeviceAbi, td: TdState | None = None) -> MockGuestDevice:
    td = td or TdState.booted(mrconfigid=CONFIG_ID)
    return MockGuestDevice(td, MockQgs(PKI, td), GuestKernel(abi.value))


@pytest.fixture(params=implementations(KERNEL_GUEST_DEVICE, "adapter"))
def reporter(request: pytest.FixtureRequest) -> TdReportDevice:
    """Devices as mainline has them."""
    if request.param == "kernel":
        return LinuxGuestDevice(Path(str(KERNEL_GUEST_DEVICE)))
    maker: Maker = _maker(request.param)
    return maker(DeviceAbi.MAINLINE)


@pytest.fixture(params=["fake", "adapter"])
def make(request: pytest.FixtureRequest) -> Maker:
    """Makes devices of an ABI."""
    return _maker(request.param)


def _maker(name: str) -> Maker:
    if name == "fake":
        return lambda abi: FakeGuestDevice(abi, CONFIG_ID)
    return lambda abi: LinuxGuestDevice(NODE, abi, ioctl=stand_in(abi).ioctl)


def test_a_report_carries_the_data_and_its_hashes_hold(reporter: TdReportDevice) -> None:
    for data in (DATA, bytes(64)):
        assert parse_tdreport(reporter.td_report(data)).report_data == data


def test_reports_of_one_td_differ_in_the_data_only(reporter: TdReportDevice) -> None:
    first, second = (parse_tdreport(reporter.td_report(data)) for data in (DATA, DATA[::-1]))
    assert first.td_info == second.td_info
    assert first.tee_tcb_info == second.tee_tcb_info


@pytest.mark.parametrize("size", [0, 48, 63, 65])
def test_report_data_of_another_size_never_reaches_the_kernel(
    reporter: TdReportDevice, size: int
) -> None:
    with pytest.raises(ValueError, match=str(size)):
        reporter.td_report(bytes(size))


@pytest.mark.parametrize("abi", DeviceAbi)
def test_every_abi_gives_reports(make: Maker, abi: DeviceAbi) -> None:
    assert parse_tdreport(make(abi).td_report(DATA)).td_info.mr_config_id == CONFIG_ID


@pytest.mark.parametrize("abi", [DeviceAbi.VENDOR, DeviceAbi.VENDOR_V3])
@pytest.mark.parametrize("rtmr", [2, 3])
def test_an_extension_shows_in_the_next_report(make: Maker, abi: DeviceAbi, rtmr: int) -> None:
    device = make(abi)
    before = parse_tdreport(device.td_report(DATA)).td_info.rtmrs
    device.extend_rtmr(rtmr, DIGEST)
    after = list(parse_tdreport(device.td_report(DATA)).td_info.rtmrs)
    assert after[rtmr] == hashlib.sha384(before[rtmr] + DIGEST).digest()
    after[rtmr] = before[rtmr]
    assert tuple(after) == before


@pytest.mark.parametrize("rtmr", [0, 1])
def test_registers_of_the_firmware_are_not_permitted(make: Maker, rtmr: int) -> None:
    with refused(errno.EPERM):
        make(DeviceAbi.VENDOR).extend_rtmr(rtmr, DIGEST)


@pytest.mark.parametrize("abi", [DeviceAbi.MAINLINE, DeviceAbi.TDX_1_0])
def test_an_absent_extension_is_an_unknown_command(make: Maker, abi: DeviceAbi) -> None:
    with refused(errno.ENOTTY):
        make(abi).extend_rtmr(3, DIGEST)


def test_mainline_has_no_quote_command(make: Maker) -> None:
    with refused(errno.ENOTTY):
        make(DeviceAbi.MAINLINE).get_quote(bytearray(16384))


@pytest.mark.parametrize("size", [0, 32, 47, 49])
def test_a_digest_of_another_size_never_reaches_the_kernel(make: Maker, size: int) -> None:
    device = make(DeviceAbi.VENDOR)
    with pytest.raises(ValueError, match=str(size)):
        device.extend_rtmr(3, bytes(size))
    with pytest.raises(ValueError, match=str(size)):
        ReportRegisters(device).extend(3, bytes(size))


# The registers behind a report.


def test_every_register_is_read(make: Maker) -> None:
    registers = ReportRegisters(make(DeviceAbi.VENDOR))
    names: tuple[RegisterName, ...] = tuple(FIELDS)
    assert {len(registers.read(name)) for name in names} == {48}
    assert registers.read("mrconfigid") == CONFIG_ID
    before = registers.read_rtmr(3)
    registers.extend(3, DIGEST)
    assert registers.read_rtmr(3) == hashlib.sha384(before + DIGEST).digest()


@pytest.mark.parametrize("abi", DeviceAbi)
def test_whether_registers_can_be_extended_is_known_beforehand(make: Maker, abi: DeviceAbi) -> None:
    registers = ReportRegisters(make(abi))
    if registers.extendable:
        registers.extend(2, DIGEST)
        with pytest.raises(MeasurementError, match="EPERM") as caught:
            registers.extend(0, DIGEST)
        assert "RTMR2 and RTMR3" in caught.value.hint
    else:
        with pytest.raises(MeasurementsAbsentError, match="ENOTTY") as absent:
            registers.extend(2, DIGEST)
        assert "guest_device_abi" in absent.value.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EBUSY, MeasurementBusyError), (errno.EINTR, MeasurementBusyError),
     (errno.EIO, MeasurementError)],
)  # fmt: skip
def test_errnos_of_registers(code: int, kind: type[MeasurementError]) -> None:
    registers = ReportRegisters(FakeGuestDevice(DeviceAbi.VENDOR, errnos=[code, code]))
    with pytest.raises(kind, match=errno.errorcode[code]):
        registers.read("mrconfigid")
    with pytest.raises(kind, match=errno.errorcode[code]):
        registers.extend(3, DIGEST)


# Reports, judged.


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.ENOTTY, DeviceAbsentError, "guest_device_abi"),
        (errno.ENXIO, DeviceAbsentError, "no TD"),
        (errno.EACCES, DeviceAbsentError, "root"),
        (errno.EBUSY, DeviceBusyError, "again"),
        (errno.EINTR, DeviceBusyError, "again"),
        (errno.EIO, DeviceHostError, "host"),
        (errno.EFAULT, GuestDeviceError, ""),
    ],
)
def test_errnos_of_reports(code: int, kind: type[GuestDeviceError], hint: str) -> None:
    with pytest.raises(kind, match=errno.errorcode[code]) as caught:
        fresh_report(FakeGuestDevice(errnos=[code]), ReportData(DATA))
    assert hint in caught.value.hint
    assert type(caught.value) is kind


def test_a_report_over_other_data_is_refused() -> None:
    with pytest.raises(GuestDeviceError, match="other report data"):
        fresh_report(FakeGuestDevice(report_data=bytes(64)), ReportData(DATA))


def test_bytes_that_are_no_report_are_refused() -> None:
    def ioctl(_fd: int, _request: int, argument: bytearray, _mutate: bool) -> int:
        argument[64:] = bytes(1024)
        return 0

    with pytest.raises(ReportFormatError):
        fresh_report(LinuxGuestDevice(NODE, ioctl=ioctl), ReportData(DATA))


def test_mock_and_fake_reports_agree_with_the_parser(shared_vectors: Path) -> None:
    real = (shared_vectors / "tdx/tdreports/guest_components_1.bin").read_bytes()
    mock = build_tdreport(TdState.booted(), DATA)
    fake = formed_report(DATA, config_id=CONFIG_ID, rtmrs=[bytes(48)] * 4)
    assert len(real) == len(mock) == len(fake)
    assert {parse_tdreport(report).report_type[0] for report in (real, mock, fake)} == {0x81}


# The adapter and its node.


def test_numbers_are_those_of_the_kernel_headers() -> None:
    def number(direction: int, nr: int, size: int) -> int:
        return direction << 30 | size << 16 | ord("T") << 8 | nr

    read, write = 2, 1
    vendor, v3 = COMMANDS[DeviceAbi.VENDOR], COMMANDS[DeviceAbi.VENDOR_V3]
    assert (vendor.extend_rtmr, vendor.get_quote) == (number(read, 3, 49), number(read, 4, 16))
    assert (v3.extend_rtmr, v3.get_quote) == (number(write, 3, 49), number(read | write, 4, 16))
    assert COMMANDS[DeviceAbi.TDX_1_0].get_quote == number(read | write, 2, 16)


def test_only_the_named_command_is_ever_issued() -> None:
    issued: list[int] = []

    def ioctl(_fd: int, request: int, _argument: bytearray, _mutate: bool) -> int:
        issued.append(request)
        return 0

    for abi in DeviceAbi:
        device = LinuxGuestDevice(NODE, abi, ioctl=ioctl)
        device.td_report(DATA)
        with suppress(OSError):
            device.extend_rtmr(3, DIGEST)
        with suppress(OSError):
            device.get_quote(bytearray(64))
    named = {n for c in COMMANDS.values() for n in (c.extend_rtmr, c.get_quote) if n is not None}
    assert set(issued) == named | {0xC4405401}


def test_the_node_is_closed_whatever_happens() -> None:
    device = LinuxGuestDevice(NODE, ioctl=stand_in(DeviceAbi.MAINLINE).ioctl)
    before = len(os.listdir("/proc/self/fd"))
    device.td_report(DATA)
    with refused(errno.ENOTTY):
        LinuxGuestDevice(NODE).td_report(DATA)  # the system call itself, on /dev/null
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_first_node_that_is_there_is_found(tmp_path: Path) -> None:
    assert [path.name for path in DEVICE_PATHS] == ["tdx_guest", "tdx-guest", "tdx-attest"]
    assert find_guest_device([tmp_path / "absent"]) is None
    assert find_guest_device([tmp_path / "absent", NODE, tmp_path]) == NODE
    with pytest.raises(DeviceAbsentError, match="character device"):
        find_guest_device([tmp_path, NODE])
    (tmp_path / "file").touch()
    with pytest.raises(GuestDeviceError, match="ENOTDIR"):
        find_guest_device([tmp_path / "file" / "tdx_guest", NODE])
