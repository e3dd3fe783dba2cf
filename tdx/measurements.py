"""The TD's measurement registers in sysfs: read, and extend by exactly one 48-byte write.

Blocking system calls; meaning of the registers and the log of what was extended are the
caller's. Source: Linux Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest (6.16).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, Literal

from tdx.errors import (
    MeasurementBusyError,
    MeasurementError,
    MeasurementsAbsentError,
    errno_text,
)

MEASUREMENTS_PATH: Final = Path("/sys/devices/virtual/misc/tdx_guest/measurements")
REGISTER_BYTES: Final = 48
RTMR_COUNT: Final = 4
ABSENT_HINT: Final = "needs Linux 6.16 with CONFIG_TDX_GUEST_DRIVER in a TD"

RegisterName = Literal[
    "rtmr0:sha384",
    "rtmr1:sha384",
    "rtmr2:sha384",
    "rtmr3:sha384",
    "mrtd:sha384",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
]
RTMR_NAMES: Final[tuple[RegisterName, ...]] = (
    "rtmr0:sha384",
    "rtmr1:sha384",
    "rtmr2:sha384",
    "rtmr3:sha384",
)


class MeasurementRegisters:
    """The files below one ``measurements`` directory."""

    def __init__(self, directory: Path = MEASUREMENTS_PATH) -> None:
        self._directory = directory

    def available(self) -> bool:
        """Whether the kernel offers the registers.

        Only "no such file" means no: any other error is raised (:class:`MeasurementError`), so
        that a failing look cannot switch a check off.
        """
        try:
            os.stat(self._directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._error("look for", "", error) from error
        return True

    def read(self, name: RegisterName) -> bytes:
        """Return the 48 bytes of a register. Raises :class:`MeasurementError`."""
        try:
            fd = os.open(self._directory / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = os.read(fd, REGISTER_BYTES + 1)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._error("read", name, error) from error
        if len(content) != REGISTER_BYTES:
            problem = f"expected {REGISTER_BYTES} bytes, got {len(content)}"
            raise MeasurementError("read", str(self._directory / name), problem)
        return content

    def read_rtmr(self, rtmr: int) -> bytes:
        """Return RTMR ``rtmr`` (0 to 3)."""
        return self.read(RTMR_NAMES[rtmr])

    def extend(self, rtmr: int, digest: bytes) -> None:
        """Extend RTMR ``rtmr`` (0 to 3) by a SHA-384 digest: new = SHA-384(old, digest).

        One write of exactly 48 bytes: sysfs would extend by the first 48 of a longer one and
        then report an error. Not idempotent and never repeated here: after an error the caller
        reads the register to learn whether it moved. Raises :class:`MeasurementError`, and
        ``ValueError`` for a digest of another length.
        """
        if len(digest) != REGISTER_BYTES:
            raise ValueError(f"a digest of {len(digest)} bytes cannot extend an RTMR")
        name = RTMR_NAMES[rtmr]
        try:
            fd = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)
            try:
                count = os.write(fd, digest)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._error("extend", name, error) from error
        if count != REGISTER_BYTES:
            problem = f"the kernel took {count} of {REGISTER_BYTES} bytes"
            raise MeasurementError("extend", str(self._directory / name), problem)

    def _error(self, attempted: str, name: str, error: OSError) -> MeasurementError:
        path = str(self._directory / name)
        text = errno_text(error.errno or 0)
        if error.errno == errno.ENOENT:
            return MeasurementsAbsentError(attempted, path, text, hint=ABSENT_HINT)
        if error.errno in (errno.EBUSY, errno.EINTR):
            return MeasurementBusyError(attempted, path, text, hint="try again")
        hint = "run as root" if error.errno == errno.EACCES else ""
        return MeasurementError(attempted, path, text, hint=hint)
