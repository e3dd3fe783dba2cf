"""Directories reached by name without following any symbolic link, at check and at use alike.

The walk opens one component after the other, each relative to the descriptor of the one before
(the effect of openat2(2) with RESOLVE_NO_SYMLINKS, on every kernel). A descriptor stays the same
directory whatever is renamed meanwhile; a path that is only looked at does not.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

WALK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_root() -> int:
    """Return a descriptor of ``/``, to walk from."""
    return os.open("/", WALK | os.O_DIRECTORY)


def enter(parent: int, name: str) -> int:
    """Return an ``O_PATH`` descriptor of the directory ``name`` below ``parent``.

    Raises ``OSError``: ELOOP if it is a symbolic link, ENOTDIR if it is something else. The caller
    has made sure that ``name`` is one component and neither ``.`` nor ``..``.
    """
    child = os.open(name, WALK, dir_fd=parent)
    try:
        mode = os.fstat(child).st_mode
        if not stat.S_ISDIR(mode):
            code = errno.ELOOP if stat.S_ISLNK(mode) else errno.ENOTDIR
            raise OSError(code, os.strerror(code), name)
    except BaseException:  # cleaned up and passed on, cancellation included
        os.close(child)
        raise
    return child


def open_directory(path: str) -> int:
    """Return an ``O_PATH`` descriptor of a clean absolute ``path``. Raises ``OSError`` (ELOOP).

    Blocks on a network or FUSE file system on the way.
    """
    current = open_root()
    try:
        for name in path.strip("/").split("/") if path.strip("/") else ():
            if name in ("", ".", ".."):
                raise OSError(errno.EINVAL, "not a clean path", path)
            child = enter(current, name)
            os.close(current)
            current = child
    except BaseException:  # cleaned up and passed on, cancellation included
        os.close(current)
        raise
    return current


def descriptor_path(descriptor: int, *names: str) -> str:
    """Return a path for calls that take no descriptor; only good in this process.

    Without ``names`` it is the directory itself, below anything mounted on it. With a name the
    kernel looks that up in the directory: a mount on it is entered, and a symbolic link may be.
    """
    return "/".join((f"/proc/self/fd/{descriptor}", *names))
