"""What the kernel says and takes about mounts: is there one, and how far it reads ahead."""

from __future__ import annotations

import os
import stat
from typing import Final

from ossmount.errors import MountPointError

READ_AHEAD_KB: Final = 4096  # four requests of 1 MiB at once; the default of 128 is one of 128 KiB
MOUNTINFO: Final = "/proc/self/mountinfo"


def check_mount_point(path: str) -> None:
    """Raise :class:`MountPointError` unless ``path`` is a directory on which nothing is mounted.

    An error while looking is reported as such, never taken for "absent". Blocks.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError as error:
        raise MountPointError(path, "does not exist", hint="create the directory") from error
    except OSError as error:
        raise MountPointError(path, os.strerror(error.errno or 0)) from error
    if not stat.S_ISDIR(mode):
        raise MountPointError(path, "is not a directory")
    if is_mounted(path):
        raise MountPointError(path, "something is mounted there already", hint="unmount it first")


def is_mounted(path: str) -> bool:
    """Whether ``path`` is a mount point in this process's mount namespace (proc(5))."""
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as lines:
            return any(_unescape(line.split(" ", 5)[4]) == real for line in lines)
    except OSError as error:
        raise MountPointError(path, f"{MOUNTINFO} is unreadable") from error


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
