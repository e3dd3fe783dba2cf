"""The measurement registers of kernels without them in sysfs: read from a TDREPORT.

Linux 6.2 to 6.15 can read all registers this way and extend none; vendor kernels extend RTMR2
and RTMR3 by ioctl. Same meaning and errors as :class:`tdx.measurements.MeasurementRegisters`.
"""

from __future__ import annotations

import errno
from typing import Final

from tdx.errors import (
    DeviceBusyError,
    GuestDeviceError,
    MeasurementBusyError,
    MeasurementError,
    MeasurementsAbsentError,
    errno_text,
)
from tdx.guest_device import VendorDevice, fresh_report
from tdx.measurements import REGISTER_BYTES, RTMR_NAMES, RegisterName
from tdx.report_data import ReportData
from tdx.tdreport import TdInfo

NO_REPORT_DATA: Final = ReportData(bytes(64))
EXTEND_HINT: Final = (
    "extending registers needs Linux 6.16, or a vendor kernel whose tee.guest_device_abi is set"
)
FIELDS: Final[dict[RegisterName, str]] = {
    **{name: f"rtmr{rtmr}" for rtmr, name in enumerate(RTMR_NAMES)},
    "mrtd:sha384": "mr_td",
    "mrconfigid": "mr_config_id",
    "mrowner": "mr_owner",
    "mrownerconfig": "mr_owner_config",
}


class ReportRegisters:
    """The registers of this TD as one device shows them. Each read takes a TDREPORT."""

    def __init__(self, device: VendorDevice) -> None:
        self._device = device

    @property
    def extendable(self) -> bool:
        """Whether the named ABI of the device can extend an RTMR."""
        return self._device.abi.extends_registers

    def read(self, name: RegisterName) -> bytes:
        """Return the 48 bytes of a register. Raises :class:`MeasurementError`."""
        try:
            _, report = fresh_report(self._device, NO_REPORT_DATA)
        except GuestDeviceError as error:
            kind = MeasurementBusyError if isinstance(error, DeviceBusyError) else MeasurementError
            raise kind("read", name, error.problem, hint=error.hint) from error
        return _register(report.td_info, name)

    def read_rtmr(self, rtmr: int) -> bytes:
        """Return RTMR ``rtmr`` (0 to 3)."""
        return self.read(RTMR_NAMES[rtmr])

    def extend(self, rtmr: int, digest: bytes) -> None:
        """Extend RTMR ``rtmr`` by a SHA-384 digest, once.

        Not idempotent: after an error the caller reads the register. Raises
        :class:`MeasurementError`, and ``ValueError`` for a digest of another length.
        """
        if len(digest) != REGISTER_BYTES:
            raise ValueError(f"a digest of {len(digest)} bytes cannot extend an RTMR")
        path = f"{RTMR_NAMES[rtmr]} through {self._device.describe()}"
        try:
            self._device.extend_rtmr(rtmr, digest)
        except OSError as error:
            code = error.errno or 0
            problem = errno_text(code)
            if code in (errno.EBUSY, errno.EINTR):
                raise MeasurementBusyError("extend", path, problem, hint="try again") from error
            if code in (errno.ENOTTY, errno.ENOENT):
                raise MeasurementsAbsentError("extend", path, problem, hint=EXTEND_HINT) from error
            hint = "vendor kernels extend RTMR2 and RTMR3 only" if code == errno.EPERM else ""
            raise MeasurementError("extend", path, problem, hint=hint) from error


def _register(info: TdInfo, name: RegisterName) -> bytes:
    value: bytes = getattr(info, FIELDS[name])
    return value
