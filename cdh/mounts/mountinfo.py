"""The kernel's list of mounts, ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

Used to confirm that a mount is there and whose it is. A table that cannot be read or understood
is an error, never "nothing is mounted".
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdh.errors import MountTableError

PATH: Final = "/proc/self/mountinfo"
MAX_BYTES: Final = 8 * 1024 * 1024  # some 50,000 mounts
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the table, as far as it is used here. ``mount_point`` is unescaped."""

    mount_id: int
    parent_id: int
    mount_point: str
    fs_type: str
    source: str


def _unescape(field: bytes) -> str:
    r"""Undo the kernel's octal escapes (``\040`` for a space); other bytes stay as they are."""

    def replace(match: re.Match[bytes]) -> bytes:
        number = int(match[1], 8)
        if number > 0xFF:
            raise MountTableError(f"impossible escape \\{match[1].decode()}")
        return bytes([number])

    return os.fsdecode(_ESCAPE.sub(replace, field))


def _parse_line(line: bytes) -> MountEntry:
    fields = line.split(b" ")
    # Six fixed fields, any number of optional ones, a lone hyphen, three fixed fields.
    separator = next((i for i, field in enumerate(fields) if i >= 6 and field == b"-"), None)
    if separator is None or len(fields) != separator + 4:
        raise MountTableError(f"a line of {len(fields)} fields without the separator in its place")
    if not (fields[0].isdigit() and fields[1].isdigit()):
        raise MountTableError("a line whose mount ids are not numbers")
    return MountEntry(
        mount_id=int(fields[0][:20]),
        parent_id=int(fields[1][:20]),
        mount_point=_unescape(fields[4]),
        fs_type=_unescape(fields[separator + 1]),
        source=_unescape(fields[separator + 2]),
    )


def parse_mountinfo(table: bytes) -> tuple[MountEntry, ...]:
    """Parse the whole table, in the kernel's order. Raises :class:`MountTableError`."""
    return tuple(_parse_line(line) for line in table.split(b"\n") if line)


def read_mountinfo(path: str = PATH) -> tuple[MountEntry, ...]:
    """Read and parse the table. Raises :class:`MountTableError`. Blocks for a short time."""
    try:
        with open(path, "rb") as file:
            table = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MountTableError(os.strerror(error.errno or 0)) from error
    if len(table) > MAX_BYTES:
        raise MountTableError(f"larger than {MAX_BYTES} bytes")
    return parse_mountinfo(table)


def topmost(entries: Sequence[MountEntry], mount_point: str) -> MountEntry | None:
    """Return the mount that is visible exactly at ``mount_point``, None if there is none.

    Of several at one place the one listed last is on top.
    """
    return next((e for e in reversed(entries) if e.mount_point == mount_point), None)


def below(entries: Sequence[MountEntry], directory: str) -> MountEntry | None:
    """Return some mount at or below ``directory``, None if there is none."""
    inside = directory.rstrip("/") + "/"
    return next(
        (e for e in entries if e.mount_point == directory or e.mount_point.startswith(inside)), None
    )
