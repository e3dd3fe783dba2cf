"""Who is at the other end of a unix socket: the kernel is asked, and nobody else.

SO_PEERCRED names the process that connected. Between that and reading its ``/proc`` files it may
end and another get its number, so the process is held by a pidfd: SO_PEERPIDFD (Linux 6.5) gives
the one that connected; before, pidfd_open(2) the one that has the number now, which leaves the time
between connecting and accepting. Alive after reading means that what was read was its own.

The container that the control groups name is believed only if the process also has that
container's root directory: where a container's group lies is part of what the host asks for.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from rest.errors import CallerUnknownError
from rest.identity import (
    CONTAINER_NAME,
    MAX_BUNDLE_CONFIG,
    MAX_CGROUP_TEXT,
    Container,
    bundle_annotations,
    cgroup_paths,
    container_id,
)

SO_PEERPIDFD: Final = 77  # include/uapi/asm-generic/socket.h; not in Python's socket module
PROC: Final = Path("/proc")
BUNDLES: Final = Path("/run/kata-containers")  # kata-agent, src/rpc.rs: CONTAINER_BASE
MAX_KEPT: Final = 64  # parsed bundle configurations
_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Guest:
    """A process of the guest itself: in no container, root directory and pid namespace as ours."""

    def __str__(self) -> str:
        return "guest"


@dataclass(frozen=True, slots=True)
class Unidentified:
    """Whoever cannot be told apart: every caller over TCP, and a process nothing is known of."""

    reason: str

    def __str__(self) -> str:
        return f"unidentified caller ({self.reason})"


Caller: TypeAlias = Container | Guest | Unidentified
OVER_TCP: Final = Unidentified("TCP tells nothing about who connects")


class PeerProcess:
    """The process that connected, held so that its number means nobody else. Close it."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    @classmethod
    def of(cls, sock: socket.socket) -> PeerProcess:
        """Raises :class:`CallerUnknownError` if the process is gone or not in our namespace."""
        try:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            pid = _UCRED.unpack(credentials)[0]
            if pid <= 0:
                raise CallerUnknownError("its process is in another pid namespace")
            return cls(pid, _pidfd(sock, pid))
        except OSError as error:
            raise CallerUnknownError("its process has ended") from error

    def is_alive(self) -> bool:
        """False once the process has ended and been waited for: its number may be another's."""
        try:
            signal.pidfd_send_signal(self._pidfd, 0)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def close(self) -> None:
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            os.close(fd)


def _pidfd(sock: socket.socket, pid: int) -> int:
    try:
        fd = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        # Any other error is about the process: its number may already be somebody else's.
        if error.errno != errno.ENOPROTOOPT:
            raise
        return os.pidfd_open(pid)
    os.set_inheritable(fd, False)
    return fd


class Identifier:
    """Finds the caller behind a process. Reads files of procfs and bundles: blocking, but short."""

    def __init__(self, proc: Path = PROC, bundles: Path = BUNDLES) -> None:
        self._proc = proc
        self._bundles = bundles
        self._kept: OrderedDict[tuple[int, ...], Mapping[str, str]] = OrderedDict()

    def identify(self, process: PeerProcess) -> Caller:
        """Return who ``process`` is. Never raises: what is unclear is unidentified."""
        try:
            caller = self._identify(process.pid)
        except CallerUnknownError as error:
            return Unidentified(error.problem)
        except OSError:
            return Unidentified("its process cannot be looked at")
        # Only now is it certain that the files were those of the process that connected.
        return caller if process.is_alive() else Unidentified("its process has ended")

    def _identify(self, pid: int) -> Caller:
        own = self._proc / str(pid)
        text = _read(own / "cgroup", MAX_CGROUP_TEXT).decode("utf-8", "surrogateescape")
        found = container_id(cgroup_paths(text), self._has_bundle)
        if found is None:
            if os.readlink(own / "ns/pid") != os.readlink(self._proc / "self/ns/pid"):
                raise CallerUnknownError("it is in a container that its control groups do not name")
            _require_root_directory(own, self._proc / "self/root", "this guest")
            return Guest()
        _require_root_directory(own, self._bundles / found / "rootfs", "its container")
        return Container(found, self._annotations(found))

    def _has_bundle(self, name: str) -> bool:
        if not CONTAINER_NAME.fullmatch(name):
            return False
        try:
            return stat.S_ISREG(os.lstat(self._bundles / name / "config.json").st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _annotations(self, name: str) -> Mapping[str, str]:
        with _opened(self._bundles / name / "config.json") as fd:
            status = os.fstat(fd)
            key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = bundle_annotations(_read_fd(fd, MAX_BUNDLE_CONFIG))
                if len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
            return kept


def _require_root_directory(process: Path, expected: Path, of: str) -> None:
    """Compare device and inode of the process' root directory with those of ``expected``."""
    theirs, ours = os.stat(process / "root"), os.stat(expected)
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        raise CallerUnknownError(f"its root directory is not that of {of}")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # No symlink, and no waiting for the other end of a pipe.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise CallerUnknownError("a file about it is not a regular one")
        yield fd
    finally:
        os.close(fd)


def _read(path: Path, limit: int) -> bytes:
    with _opened(path) as fd:
        return _read_fd(fd, limit)


def _read_fd(fd: int, limit: int) -> bytes:
    """Read to the end. Raises :class:`CallerUnknownError` if that is beyond ``limit``."""
    data = bytearray()
    while chunk := os.read(fd, 64 * 1024):
        data += chunk
        if len(data) > limit:
            raise CallerUnknownError("a file about it is too long")
    return bytes(data)
