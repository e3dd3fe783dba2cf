"""Unix listening sockets that appear only when somebody can answer on them.

kata-agent takes the mere existence of the socket file for readiness and connects once, so the
socket is bound and set listening under a temporary name and then renamed into place. A path on
which a live process answers is never taken over; a stale file is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from lifecycle.errors import AddressInUseError, SocketError

PREFIX: Final = "unix://"
MAX_PATH: Final = 107  # bytes in sun_path less the final NUL, unix(7)
BACKLOG: Final = 128
PROBE_SECONDS: Final = 1.0
FIRST_PASSED_FD: Final = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket path, written ``unix:///path`` in configuration as the reference components do."""

    path: str

    @classmethod
    def parse(cls, text: str) -> UnixAddress:
        """Raises :class:`SocketError` unless ``text`` is ``unix://`` and an absolute path."""
        path = text.removeprefix(PREFIX)
        if path == text or not path.startswith("/") or "\0" in path:
            raise SocketError(
                text[:200], "not a unix socket address", hint="write unix:///absolute/path"
            )
        # The temporary name below adds up to 9 bytes.
        if len(os.fsencode(path)) > MAX_PATH - 9:
            raise SocketError(text[:200], f"the path is longer than {MAX_PATH - 9} bytes")
        return cls(path)

    def __str__(self) -> str:
        return PREFIX + self.path


class ListeningSocket:
    """A bound and listening socket together with the file that names it.

    Closing removes the file only if it is still the one made here: a successor that has already
    replaced it keeps its own.
    """

    def __init__(self, sock: socket.socket, address: UnixAddress, inode: int | None) -> None:
        self.sock = sock
        self.address = address
        self._inode = inode

    def close(self) -> None:
        self.sock.close()
        if self._inode is None:
            return
        with contextlib.suppress(OSError):
            if os.lstat(self.address.path).st_ino == self._inode:
                os.unlink(self.address.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


async def _refuse_live(address: UnixAddress) -> None:
    """Raise if somebody answers, or if the path is something other than a socket."""
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(str(address), "the path exists and is not a socket", hint="remove it")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with probe:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await asyncio.get_running_loop().sock_connect(probe, address.path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except (TimeoutError, BlockingIOError) as error:
            # A full backlog means somebody is there.
            raise AddressInUseError(str(address)) from error
    raise AddressInUseError(str(address))


async def listen_unix(address: UnixAddress, *, mode: int = 0o600) -> ListeningSocket:
    """Bind, listen, then let the path appear. Parent directories are made (0755).

    Raises :class:`AddressInUseError` if a live process answers on the path, and
    :class:`SocketError` for anything else that prevents it. Cancellation leaves no file.
    """
    try:
        os.makedirs(os.path.dirname(address.path), mode=0o755, exist_ok=True)
        await _refuse_live(address)
        return _bind_and_rename(address, mode)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        hint = "run as root" if error.errno in (errno.EACCES, errno.EPERM) else ""
        raise SocketError(str(address), reason, hint=hint) from error


def _bind_and_rename(address: UnixAddress, mode: int) -> ListeningSocket:
    temporary = f"{address.path}.{secrets.token_hex(4)}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(temporary)
        os.chmod(temporary, mode)
        sock.listen(BACKLOG)
        inode = os.lstat(temporary).st_ino
        os.rename(temporary, address.path)
    except BaseException:  # cleaned up and passed on, cancellation included
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return ListeningSocket(sock, address, inode)


def passed_sockets(environ: Mapping[str, str], pid: int) -> dict[str, int]:
    """Return the descriptors systemd passed, by name (``LISTEN_FDNAMES``, sd_listen_fds(3)).

    Empty when there are none or they are meant for another process. Raises
    :class:`SocketError` when the variables contradict each other.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    count = environ.get("LISTEN_FDS", "0")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if not count.isdecimal() or int(count) != len(names) or len(set(names)) != len(names):
        raise SocketError(
            "LISTEN_FDS",
            "names and number of passed sockets disagree",
            hint="give every socket unit its own FileDescriptorName=",
        )
    return {name: FIRST_PASSED_FD + index for index, name in enumerate(names)}


class PassedSockets:
    """Listening sockets that came with the start of the process, each taken at most once."""

    def __init__(self, named: Mapping[str, int]) -> None:
        self._named = dict(named)

    @classmethod
    def of_process(cls, environ: Mapping[str, str] | None = None) -> PassedSockets:
        """Raises :class:`SocketError` as :func:`passed_sockets`."""
        return cls(passed_sockets(os.environ if environ is None else environ, os.getpid()))

    def take(self, name: str, address: UnixAddress) -> ListeningSocket | None:
        """Take over the socket of this name; its file stays systemd's. ``None`` if there is none.

        Raises :class:`SocketError` unless it listens on ``address``: a configuration and a socket
        unit that disagree would leave clients of one of them without an answer.
        """
        fd = self._named.pop(name, None)
        if fd is None:
            return None
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise SocketError(str(address), f"the passed socket {name} is not a socket") from error
        try:
            _require_listening(sock, name, address)
            sock.setblocking(False)
            os.set_inheritable(fd, False)
        except BaseException:  # cleaned up and passed on, cancellation included
            sock.close()
            raise
        return ListeningSocket(sock, address, None)

    def refuse(self, name: str, problem: str) -> None:
        """Raise :class:`SocketError` if a socket of this name was passed."""
        if name in self._named:
            raise SocketError(f"passed socket {name}", problem, hint="remove it from the unit")

    def require_only(self, *names: str) -> None:
        """Raise :class:`SocketError` for a socket of another name, which nobody would serve."""
        for name in self._named:
            if name not in names:
                self.refuse(name, f"expected one of {', '.join(names) or 'none'}")


def _require_listening(sock: socket.socket, name: str, address: UnixAddress) -> None:
    kind = (sock.family, sock.type, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        raise SocketError(str(address), f"the passed socket {name} is not a listening unix socket")
    if sock.getsockname() != address.path:
        raise SocketError(
            str(address),
            f"the socket passed as {name} listens on another path",
            hint="use the same path in ListenStream= and in the configuration",
        )
