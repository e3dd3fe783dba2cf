"""What an errno of the report interface or of the guest device means, and what to do about it.

Source: Linux drivers/virt/coco/guest/report.c and drivers/virt/coco/tdx-guest/tdx-guest.c.
"""

from __future__ import annotations

import errno
from typing import Final

from tdx.errors import (
    DeviceAbsentError,
    DeviceBusyError,
    DeviceHostError,
    GuestDeviceError,
    TsmBusyError,
    TsmError,
    TsmHostError,
    TsmInterruptedError,
    TsmIoError,
    TsmTimeoutError,
    TsmUnavailableError,
    errno_text,
)

KERNEL_HINT: Final = "in a TD, load the module tdx_guest and mount configfs on /sys/kernel/config"


def tsm_error(attempted: str, path: str, error: OSError) -> TsmError:
    """Return our error for an errno of the report interface, with what to do about it.

    Source: Linux drivers/virt/coco/guest/report.c and drivers/virt/coco/tdx-guest.
    """
    code = error.errno or 0
    kind, hint = _BY_ERRNO.get(code, (TsmIoError, ""))
    return kind(attempted, path, errno_text(code), hint=hint)


_BY_ERRNO: dict[int, tuple[type[TsmError], str]] = {
    errno.ENOENT: (TsmUnavailableError, KERNEL_HINT),
    errno.ENOTDIR: (TsmUnavailableError, "report_path must be the directory tsm/report"),
    errno.ENXIO: (
        TsmUnavailableError,
        "the report interface has no provider: this machine is no TD, or tdx_guest is not loaded",
    ),
    errno.EACCES: (TsmUnavailableError, "run as root"),
    errno.EPERM: (TsmUnavailableError, "run as root; report_path must be tsm/report itself"),
    errno.EROFS: (TsmUnavailableError, "configfs is mounted read-only; remount it read-write"),
    errno.EBUSY: (TsmBusyError, "an earlier quote request is in flight; try again later"),
    errno.EINTR: (TsmInterruptedError, "a signal ended the wait; try again"),
    errno.ETIMEDOUT: (
        TsmTimeoutError,
        "the host's quote generation service did not answer; look at the host",
    ),
    errno.EIO: (TsmHostError, "the host or the TDX module refused; look at the host's QGS log"),
    errno.EFBIG: (TsmHostError, "the blob is larger than the interface allows"),
    errno.EINVAL: (TsmIoError, "report data must be exactly 64 bytes, a level at most 3"),
}


def device_error(attempted: str, path: str, error: OSError) -> GuestDeviceError:
    """Return our error for an errno of the guest device, with what to do about it.

    Source: Linux drivers/virt/coco/tdx-guest/tdx-guest.c.
    """
    code = error.errno or 0
    kind, hint = _BY_DEVICE_ERRNO.get(code, (GuestDeviceError, ""))
    return kind(attempted, path, errno_text(code), hint=hint)


_BY_DEVICE_ERRNO: dict[int, tuple[type[GuestDeviceError], str]] = {
    errno.ENOENT: (DeviceAbsentError, "in a TD, load the module tdx_guest"),
    errno.ENOTTY: (DeviceAbsentError, "this kernel has no such command; see tee.guest_device_abi"),
    errno.ENXIO: (DeviceAbsentError, "this machine is no TD"),
    errno.EACCES: (DeviceAbsentError, "run as root"),
    errno.EPERM: (DeviceAbsentError, "run as root"),
    errno.EBUSY: (DeviceBusyError, "try again later"),
    errno.EINTR: (DeviceBusyError, "a signal ended the wait; try again"),
    errno.EIO: (DeviceHostError, "the host or the TDX module refused"),
}
