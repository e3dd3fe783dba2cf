"""What the kernel says and takes about mounts: is there one, and how far it reads ahead."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ossmount.errors import MountPointError

READ_AHEAD_KB: Final = 4096  # four requests of 1 MiB at once; the default of 128 is one of 128 KiB
MOUNTINFO: Final = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class MountLine:
    """One mount of this namespace. The kernel uses a number again after its mount is gone."""

    number: int
    path: str
    source: str


def mount_lines(path: str) -> list[MountLine]:
    """Read the table (proc_pid_mountinfo(5)), in the kernel's order. Blocks for a short time.

    Raises :class:`MountPointError` for ``path`` if it is unreadable, which is not "no mounts".
    """
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as lines:
            table = [(line.split(" ", 5), line.rpartition(" - ")[2].split(" ")) for line in lines]
    except OSError as error:
        raise MountPointError(path, f"{MOUNTINFO} is unreadable") from error
    return [
        MountLine(int(fields[0]), _unescape(fields[4]), _unescape(rest[1]))
        for fields, rest in table
    ]


def _unescape(field: str) -> str:
    """Undo the octal escapes of mountinfo for space, tab, newline and backslash."""
    for code in ("040", "011", "012", "134"):
        field = field.replace(f"\\{code}", chr(int(code, 8)))
    return field


def raise_read_ahead(path: str) -> bool:
    """Let the kernel read further ahead on the mount; return whether it was allowed. Blocks.

    Without it sequential reads run at about a quarter of the speed; nothing else depends on it.
    """
    device = os.stat(path).st_dev
    control = f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb"
    try:
        with open(control, "w", encoding="ascii") as file:
            file.write(str(READ_AHEAD_KB))
    except OSError:
        return False
    return True
