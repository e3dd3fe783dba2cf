"""The port to configfs-tsm, in the kernel's own terms, and its Linux adapter.

One method per thing a program can do to a report entry. All of them block, possibly for as long
as the host takes to make a quote, and raise plain ``OSError``; meaning is given to an errno by
the caller. Source: Linux Documentation/ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final, Protocol

REPORT_PATH: Final = Path("/sys/kernel/config/tsm/report")
CHUNK_BYTES: Final = 64 * 1024


class TsmFilesystem(Protocol):
    """The directory ``tsm/report``: entries are directories, attributes are files in them."""

    def mkdir(self, entry: str) -> None:
        """Create an entry; its attributes are there at once."""

    def rmdir(self, entry: str) -> None:
        """Remove an entry with its attributes, after callbacks in flight have ended."""

    def entries(self) -> list[str]:
        """Return the names of all entries, of every process."""

    def write(self, entry: str, attribute: str, content: bytes) -> int:
        """Open for writing, write once, close. Return the count that the write took.

        The kernel stores ``inblob`` when the file is closed and hides an error of that store.
        """

    def read(self, entry: str, attribute: str, limit: int) -> bytes:
        """Read an attribute to its end. Raises ``OSError`` (EFBIG) above ``limit`` bytes."""

    def describe(self, entry: str, attribute: str = "") -> str:
        """Return the path for messages."""


class LinuxTsm:
    """Plain system calls on the kernel's directory. Not buffered: each call is one system call."""

    def __init__(self, root: Path = REPORT_PATH) -> None:
        self._root = root

    def mkdir(self, entry: str) -> None:
        os.mkdir(self._root / entry, 0o755)

    def rmdir(self, entry: str) -> None:
        # Never a recursive delete: unlink of an attribute is refused and would leave the entry.
        os.rmdir(self._root / entry)

    def entries(self) -> list[str]:
        return os.listdir(self._root)

    def write(self, entry: str, attribute: str, content: bytes) -> int:
        # O_CLOEXEC also keeps a child from holding the file open, which would delay the store.
        fd = os.open(self._root / entry / attribute, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(fd, content)
        finally:
            os.close(fd)

    def read(self, entry: str, attribute: str, limit: int) -> bytes:
        fd = os.open(self._root / entry / attribute, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_to_end(fd, limit)
        finally:
            os.close(fd)

    def describe(self, entry: str, attribute: str = "") -> str:
        return str(self._root / entry / attribute)


def _read_to_end(fd: int, limit: int) -> bytes:
    """Read until an empty read; ``st_size`` of configfs files says nothing about the content."""
    content = bytearray()
    while chunk := os.read(fd, min(CHUNK_BYTES, limit + 1 - len(content))):
        content += chunk
        if len(content) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return bytes(content)
