"""Run-time measurement registers: one suite for the in-memory fake and for sysfs look-alikes.

Source: Linux Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agent.eventlog import Registers
from mocktee.tsm.process import TsmProcess
from tdx.errors import MeasurementError, MeasurementsAbsentError
from tdx.guest_device import DeviceAbi
from tdx.measurements import MeasurementRegisters, RegisterName
from tdx.report_registers import ReportRegisters
from tests.ports.conftest import KERNEL_MEASUREMENTS_PATH, implementations
from tests.ports.fake_guest_device import FakeGuestDevice
from tests.ports.fake_registers import FakeRegisters

DIGEST = hashlib.sha384(b"event").digest()


@pytest.fixture(params=[*implementations(KERNEL_MEASUREMENTS_PATH, "mock"), "device"])
def registers(request: pytest.FixtureRequest) -> Registers:
    """In memory, in sysfs or what looks like it, and through the ioctl of a vendor kernel."""
    if request.param == "fake":
        return FakeRegisters()
    if request.param == "device":
        return ReportRegisters(FakeGuestDevice(DeviceAbi.VENDOR))
    if request.param == "kernel":
        return MeasurementRegisters(Path(str(KERNEL_MEASUREMENTS_PATH)))
    mock: TsmProcess = request.getfixturevalue("mock_tsm")
    return MeasurementRegisters(mock.measurements)


# Every way extends these two; mainline extends all four, vendor kernels keep 0 and 1.
@pytest.mark.parametrize("rtmr", [2, 3])
def test_extension_hashes_old_value_and_digest(registers: Registers, rtmr: int) -> None:
    others = [registers.read_rtmr(r) for r in range(4) if r != rtmr]
    before = registers.read_rtmr(rtmr)
    assert len(before) == 48
    registers.extend(rtmr, DIGEST)
    after = registers.read_rtmr(rtmr)
    assert after == hashlib.sha384(before + DIGEST).digest()
    assert [registers.read_rtmr(r) for r in range(4) if r != rtmr] == others


def test_fixed_registers_are_read(request: pytest.FixtureRequest) -> None:
    if KERNEL_MEASUREMENTS_PATH is not None:
        registers = MeasurementRegisters(Path(KERNEL_MEASUREMENTS_PATH))
    else:
        mock: TsmProcess = request.getfixturevalue("mock_tsm")
        registers = MeasurementRegisters(mock.measurements)
    assert registers.available()
    names: tuple[RegisterName, ...] = ("mrtd:sha384", "mrconfigid", "mrowner", "mrownerconfig")
    assert {len(registers.read(name)) for name in names} == {48}


@pytest.mark.parametrize("size", [0, 32, 47, 49, 64])
def test_a_digest_of_another_length_never_reaches_the_kernel(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        MeasurementRegisters(tmp_path).extend(3, bytes(size))


def test_absent_registers_are_a_capability_not_a_failure(tmp_path: Path) -> None:
    registers = MeasurementRegisters(tmp_path / "measurements")
    assert not registers.available()
    with pytest.raises(MeasurementsAbsentError, match="ENOENT") as caught:
        registers.read("mrconfigid")
    assert "6.16" in caught.value.hint


def test_a_failing_look_is_not_absent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    registers = MeasurementRegisters(tmp_path / "file" / "measurements")
    with pytest.raises(MeasurementError, match="ENOTDIR"):
        registers.available()


@pytest.mark.parametrize("size", [0, 47, 49])
def test_a_register_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "rtmr3:sha384").write_bytes(bytes(size))
    with pytest.raises(MeasurementError, match="expected 48 bytes"):
        MeasurementRegisters(tmp_path).read_rtmr(3)


def test_an_extension_is_one_unbuffered_write(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rtmr3:sha384")
    fd = os.open(tmp_path / "rtmr3:sha384", os.O_RDWR)
    try:
        MeasurementRegisters(tmp_path).extend(3, DIGEST)
        assert os.read(fd, 4096) == DIGEST
    finally:
        os.close(fd)
