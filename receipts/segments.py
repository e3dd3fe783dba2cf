"""The files of a chain: ``00000001.jsonl`` and further, each receipt a line.

Directory 0700, files 0600, appended to only; on guest memory, so nothing here is synchronised to a
medium. One process writes. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from receipts.errors import ReceiptsDamagedError

NAME: Final = re.compile(r"[0-9]{8}\.jsonl", re.ASCII)
LOCK: Final = ".lock"
SET_ASIDE: Final = ".damaged"
MAX_FILE_BYTES: Final = 256 << 20  # more than the largest configuration makes
DEFAULT_DIRECTORY: Final = "/run/confidential-guest/receipts"
MAX_FILES: Final = 1024
READS: Final = 20  # the oldest file may be dropped between listing and opening; that costs no read


class Store(Protocol):
    """Where segments are kept. Raises ``OSError``; an ``append`` that does has changed nothing."""

    def load(self) -> dict[int, bytes]:
        """Return the segments by number, in order."""
        ...

    def append(self, data: bytes) -> None:
        """Append to the newest segment."""
        ...

    def begin(self, number: int, data: bytes) -> None:
        """Make a further segment and write to it."""
        ...

    def drop(self, number: int) -> None: ...

    def cut(self, number: int, size: int) -> None:
        """Cut the newest segment to ``size`` bytes and go on with it; remove it at 0."""
        ...

    def set_aside(self) -> None:
        """Keep the present segments where they are in nobody's way, in place of older ones."""
        ...


class SegmentDirectory:
    """A :class:`Store` of files. Implements it for one process at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._claim = -1
        self._fd = -1
        self._size = 0

    def open(self) -> None:
        """Make the directory, or check that it is the guest's alone, and claim it.

        Raises :class:`ReceiptsDamagedError` for one that others can reach or that somebody else
        writes, and ``OSError``.
        """
        os.makedirs(self.directory.parent, mode=0o755, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
        found = os.lstat(self.directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise self._unusable("not a directory of this user")
        if found.st_mode & 0o077:
            raise self._unusable("others may look into it", hint="remove it, or make it 0700")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._claim = os.open(self.directory / LOCK, flags, 0o600)
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            hint = "run one cguestd only, or give each a directory"
            raise self._unusable("another process writes it", hint=hint) from error

    def close(self) -> None:
        """Give the directory up. Idempotent."""
        for fd in (self._fd, self._claim):
            if fd >= 0:
                os.close(fd)
        self._fd = self._claim = -1

    def load(self) -> dict[int, bytes]:
        return dict(_contents(self.directory))

    def append(self, data: bytes) -> None:
        with self._whole_or_nothing(self._fd, self._size):
            _write_all(self._fd, data)
        self._size += len(data)

    def begin(self, number: int, data: bytes) -> None:
        path = self._path(number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            _write_all(fd, data)
        except BaseException:  # cleaned up and passed on
            os.close(fd)
            os.unlink(path)
            raise
        self._turn_to(fd, len(data))

    def drop(self, number: int) -> None:
        with suppress(FileNotFoundError):  # gone is gone
            os.unlink(self._path(number))

    def cut(self, number: int, size: int) -> None:
        if size == 0:
            self.drop(number)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path(number), flags)
        os.ftruncate(fd, size)
        self._turn_to(fd, size)

    def set_aside(self) -> None:
        for name in _names(self.directory):
            path = self.directory / name
            os.replace(path, path.with_suffix(SET_ASIDE))

    def _turn_to(self, fd: int, size: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, size

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:08d}.jsonl"

    @contextmanager
    def _whole_or_nothing(self, fd: int, size: int) -> Iterator[None]:
        try:
            yield
        except OSError:
            os.ftruncate(fd, size)
            raise

    def _unusable(self, problem: str, hint: str = "") -> ReceiptsDamagedError:
        return ReceiptsDamagedError(str(self.directory), problem, hint=hint)


def read_directory(directory: Path) -> list[bytes]:
    """Return the receipts that are there now, as lines, while somebody may be writing.

    Half a line at the end is left out. Raises ``OSError``.
    """
    for left in reversed(range(READS)):
        try:
            contents = [content for _, content in _contents(directory)]
        except FileNotFoundError:
            if not left or not directory.is_dir():
                raise
            continue
        return [line for content in contents for line in content.split(b"\n")[:-1]]
    return []


def _names(directory: Path) -> list[str]:
    names = sorted(name for name in os.listdir(directory) if NAME.fullmatch(name))
    if len(names) > MAX_FILES:
        raise OSError(27, f"more than {MAX_FILES} files", str(directory))
    return names


def _contents(directory: Path) -> Iterator[tuple[int, bytes]]:
    for name in _names(directory):
        fd = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise OSError(27, f"larger than {MAX_FILE_BYTES} bytes", name)
        yield int(name[:8]), content


def _write_all(fd: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(fd, data[written:])
