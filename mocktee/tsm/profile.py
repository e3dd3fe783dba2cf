"""Which Linux the mock plays: what differs between releases that a guest can notice.

Sources: Linux Documentation/ABI/testing/configfs-tsm-report, include/linux/tsm.h, and the history
of drivers/virt/coco/tdx-guest/tdx-guest.c.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class KernelProfile:
    """One release line."""

    name: str
    outblob_max: int  # bytes; reading more gives EFBIG
    registers: bool  # measurement registers in sysfs
    services: bool  # manifestblob and service_*, where the provider has levels
    host_failure: int  # errno when the host reports an error; 0: success with an empty quote


PROFILES: Final = {
    profile.name: profile
    for profile in (
        KernelProfile("6.7", 32 << 10, registers=False, services=False, host_failure=0),
        KernelProfile("6.16", 32 << 10, registers=True, services=True, host_failure=0),
        KernelProfile("7.0", 16 << 20, registers=True, services=True, host_failure=0),
        KernelProfile("fixed", 16 << 20, registers=True, services=True, host_failure=errno.EIO),
    )
}
DEFAULT_PROFILE: Final = PROFILES["7.0"]
