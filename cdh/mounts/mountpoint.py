"""The place a volume is mounted at: named by the host, so checked before it is touched.

Whoever chooses the mount point could cover files this guest trusts, so it must lie below an
allowed root, outside a fixed list, and be reached without following any symbolic link
(:mod:`lifecycle.directories`). What was checked here is not trusted later: the mount process opens
the same name in the same way and mounts on that descriptor, and directories are removed likewise.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdh.errors import MountPointError
from cdh.mounts.mountinfo import below, read_mountinfo
from lifecycle.directories import enter, open_directory, open_root

MAX_PATH: Final = 1024  # bytes; the kernel's limit is 4096 and nobody needs it
DIRECTORY_MODE: Final = 0o755
# Covering these would replace keys, sockets or units that the guest trusts. Not configurable.
PROTECTED: Final = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/run/confidential-containers",
    "/run/cguest",
    "/run/dbus",
    "/run/initramfs",
    "/run/systemd",
    "/run/udev",
    "/sbin",
    "/sys",
    "/usr",
)


def _inside(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def check_mount_point(text: str, allowed_roots: Sequence[str]) -> str:
    """Return ``text`` if it may be mounted at, judged by name alone.

    Raises :class:`MountPointError`.
    """
    size = len(os.fsencode(text))
    if not text.startswith("/") or size > MAX_PATH:
        raise MountPointError(text, f"not an absolute path of at most {MAX_PATH} bytes")
    if not text.isprintable():
        raise MountPointError(text, "contains control characters")
    path = text.rstrip("/")
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        raise MountPointError(text, "contains an empty, '.' or '..' component")
    if not any(_inside(path, root) for root in allowed_roots):
        raise MountPointError(
            text,
            f"outside the allowed roots {', '.join(allowed_roots)}",
            hint="mount below one of them, or extend mounts.allowed_roots",
        )
    for protected in PROTECTED:
        if path == protected or _inside(path, protected) or _inside(protected, path):
            raise MountPointError(text, f"would cover {protected}, which this guest trusts")
    return path


@dataclass(frozen=True, slots=True)
class PreparedMountPoint:
    """A directory ready to be mounted at. ``created`` lists what was made, outermost first."""

    path: str
    created: tuple[str, ...]

    def remove_created(self) -> tuple[str, ...]:
        """Remove what was made here and return what remains.

        With rmdir only: a directory that holds anything, or is still a mount, stays. Blocks.
        """
        for index in reversed(range(len(self.created))):
            try:
                _remove(self.created[index])
            except FileNotFoundError:
                continue
            except OSError:
                return self.created[: index + 1]
        return ()


def prepare_mount_point(path: str) -> PreparedMountPoint:
    """Make the missing directories of a checked ``path`` (0755) and see that it is free.

    Raises :class:`MountPointError` if a component is a symbolic link or no directory, if
    something is mounted at or below the path, or if the system refuses; what was made is then
    removed again. Blocks: call it in a worker thread.
    """
    created: list[str] = []
    try:
        _walk(path, created)
        mounted = below(read_mountinfo(), path)
        if mounted is not None:
            raise MountPointError(
                path,
                f"{mounted.fs_type} is already mounted at {mounted.mount_point}",
                hint="unmount it first, or choose another place",
            )
    except BaseException:  # cleaned up and passed on, cancellation included
        PreparedMountPoint(path, tuple(created)).remove_created()
        raise
    return PreparedMountPoint(path, tuple(created))


def _remove(path: str) -> None:
    """Remove an empty directory, through no link. Raises ``OSError``."""
    parent, _, name = path.rpartition("/")
    directory = open_directory(parent)
    try:
        os.rmdir(name, dir_fd=directory)
    finally:
        os.close(directory)


def _walk(path: str, created: list[str]) -> None:
    current = open_root()
    walked = ""
    try:
        for name in path.split("/")[1:]:
            walked = f"{walked}/{name}"
            child = _enter(current, name, walked, created)
            os.close(current)
            current = child
    except OSError as error:
        raise MountPointError(path, f"{walked}: {_reason(error)}") from error
    finally:
        os.close(current)


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.ENOTCONN:
            return "a mount there is dead"
        case errno.ELOOP:
            return "is a symbolic link; links are not followed"
        case errno.ENOTDIR:
            return "is not a directory"
        case code:
            return os.strerror(code or errno.EIO)


def _enter(parent: int, name: str, walked: str, created: list[str]) -> int:
    """Open ``name`` below ``parent``, making it if it is absent. Raises ``OSError``."""
    try:
        return enter(parent, name)
    except FileNotFoundError:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
        created.append(walked)
        return enter(parent, name)
