"""The place a volume is mounted at: named by the host, so checked before it is touched.

Whoever chooses the mount point could cover files this guest trusts, so it must lie below an
allowed root, outside a fixed list, and be reached without following any symbolic link. The walk
opens one component after the other (the effect of openat2(2) with RESOLVE_NO_SYMLINKS).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdh.errors import MountPointError
from cdh.mounts.mountinfo import below, read_mountinfo

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
_WALK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


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
                os.rmdir(self.created[index])
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


def _walk(path: str, created: list[str]) -> None:
    current = os.open("/", _WALK | os.O_DIRECTORY)
    walked = ""
    try:
        for name in path.split("/")[1:]:
            walked = f"{walked}/{name}"
            child = _enter(current, name, walked, created)
            os.close(current)
            current = child
    except OSError as error:
        reason = "a mount there is dead" if error.errno == errno.ENOTCONN else None
        raise MountPointError(
            path, f"{walked}: {reason or os.strerror(error.errno or 0)}"
        ) from error
    finally:
        os.close(current)


def _enter(parent: int, name: str, walked: str, created: list[str]) -> int:
    """Open ``name`` below ``parent``, making it if it is absent. Raises ``OSError`` as well."""
    try:
        child = os.open(name, _WALK, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
        created.append(walked)
        child = os.open(name, _WALK, dir_fd=parent)
    try:
        mode = os.fstat(child).st_mode
        if stat.S_ISLNK(mode):
            raise MountPointError(walked, "is a symbolic link; links are not followed")
        if not stat.S_ISDIR(mode):
            raise MountPointError(walked, "is not a directory")
    except BaseException:  # cleaned up and passed on, cancellation included
        os.close(child)
        raise
    return child
