"""Text attributes that are stored, as the kernel reads them. No I/O.

Source: Linux drivers/virt/coco/guest/report.c, lib/kstrtox.c, lib/uuid.c.
"""

from __future__ import annotations

import errno
import re
from typing import Final

from mocktee.errors import SyscallError

HIGHEST_LEVEL: Final = 3
UNSIGNED_MAX: Final = (1 << 32) - 1
UNSIGNED: Final = re.compile(rb"\+?(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)\n?", re.ASCII | re.IGNORECASE)
GUID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def unsigned(text: bytes) -> int:
    """``kstrtouint`` with base 0: hexadecimal, octal or decimal by prefix. EINVAL, ERANGE."""
    found = UNSIGNED.fullmatch(text)
    if found is None:
        raise SyscallError(errno.EINVAL)
    digits = found[1].decode().lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    value = int(digits, base)
    if value > UNSIGNED_MAX:
        raise SyscallError(errno.ERANGE)
    return value


def level_from(text: bytes, floor: int) -> int:
    """A privilege level: EINVAL outside floor to 3."""
    level = unsigned(text)
    if not floor <= level <= HIGHEST_LEVEL:
        raise SyscallError(errno.EINVAL)
    return level


def check_guid(text: bytes) -> None:
    """EINVAL unless it starts with a GUID; what follows is not looked at."""
    if GUID.match(text) is None:
        raise SyscallError(errno.EINVAL)
