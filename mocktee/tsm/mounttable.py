"""Asks the kernel's mount table, never the mount itself: a dead mount would block or fail."""

from __future__ import annotations

import os
from pathlib import Path


def is_mounted(mount: Path) -> bool:
    """Whether something is mounted exactly on ``mount`` (proc(5), mountinfo, field 5)."""
    # Only the parent is resolved, for the same reason.
    wanted = os.path.join(os.path.realpath(mount.parent), mount.name)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        return any(_unescaped(line.split(" ")[4]) == wanted for line in table)


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
