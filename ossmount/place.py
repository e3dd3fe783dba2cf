"""The directory that is mounted on, held by descriptor from the check to the unmount.

The path comes from a host: between two looks at it somebody may put a symbolic link in its way.
So it is opened once, without following links, the mount goes onto that descriptor, and it is
taken away by the descriptor of the parent.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Final, Self

from lifecycle.detaching import detach_below
from lifecycle.directories import descriptor_path, enter, open_directory
from ossmount.errors import MountPointError
from ossmount.kernel import MountLine, mount_lines

HINTS: Final = {errno.ENOENT: "create the directory"}
REASONS: Final = {
    errno.ELOOP: "is reached through a symbolic link; links are not followed",
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "is not a directory",
}


class MountPlace:
    """A free mount point. :meth:`mounted` and :meth:`detach` in this order, then :meth:`close`."""

    def __init__(self, path: str, parent: int, directory: int) -> None:
        self.path = path
        self._parent = parent
        self._directory = directory
        self._own: MountLine | None = None

    @classmethod
    def open(cls, path: str) -> Self:
        """Raises :class:`MountPointError` if it is no directory, or is not free. Blocks."""
        above, _, name = path.rpartition("/")
        try:
            parent = open_directory(above)
            try:
                directory = enter(parent, name)
            except BaseException:  # cleaned up and passed on, cancellation included
                os.close(parent)
                raise
        except OSError as error:
            code = error.errno or errno.EIO
            reason = REASONS.get(code) or os.strerror(code)
            raise MountPointError(path, reason, hint=HINTS.get(code, "")) from error
        place = cls(path, parent, directory)
        try:
            if any(line.path == path for line in mount_lines(path)):
                raise MountPointError(
                    path, "something is mounted there already", hint="unmount it first"
                )
        except BaseException:  # cleaned up and passed on, cancellation included
            place.close()
            raise
        return place

    @property
    def bare(self) -> str:
        """The directory itself, for mount(2)."""
        return descriptor_path(self._directory)

    @property
    def inside(self) -> str:
        """What is mounted on it, for calls that ask the file system."""
        return descriptor_path(self._parent, os.path.basename(self.path))

    def mounted(self) -> None:
        """Remember the mount just made. Raises :class:`MountPointError` if it is not at ``path``.

        Asks the kernel's tables and not the file system, so it cannot block on it.
        """
        self._own = self._topmost()
        if self._own is None or self._own.path != self.path:
            raise MountPointError(self.path, "the mount is not visible there in this namespace")

    def detach(self) -> None:
        """Take our own mount out of the tree, if it is still there and on top."""
        own, top = self._own, self._topmost()
        if own is None or top is None or (own.number, own.source) != (top.number, top.source):
            return
        detach_below(self._parent, os.path.basename(self.path))

    def close(self) -> None:
        os.close(self._directory)
        os.close(self._parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _topmost(self) -> MountLine | None:
        """The mount on top of the directory, wherever it shows (proc_pid_fdinfo(5))."""
        try:
            top = os.open(self.inside, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            number = _mount_id(top)
        finally:
            os.close(top)
        if number == _mount_id(self._directory):
            return None
        return next((line for line in mount_lines(self.path) if line.number == number), None)


def _mount_id(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
