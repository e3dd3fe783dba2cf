"""Standard input, output and error of a daemon, which it inherits from whoever started it.

kata-agent's are the host's console. So: nothing is read from it, only log lines go to it, and a
console that is closed or takes nothing costs the lines and never stops a service.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from contextlib import suppress
from typing import Final

_STDERR: Final = 2


class QuietStream(io.TextIOBase):
    """Text to a descriptor, as far as it takes it at once. Writing never raises or waits."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, text: str) -> int:
        """Lose what cannot be written; return the length all the same."""
        data = text.encode(errors="backslashreplace")
        with suppress(OSError):
            while data and self._poll.poll(0):
                data = data[os.write(self._fd, data) :]
        return len(text)


def detach() -> None:
    """Read from nothing, print to nothing, and log to standard error as far as it is there.

    Also puts something behind the three numbers where they were closed, so that no socket of ours
    is ever taken for them.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    while nothing <= _STDERR:
        os.set_inheritable(nothing, True)
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    sys.stderr = QuietStream(_unblocked(_STDERR))


def _unblocked(fd: int) -> int:
    """Return a descriptor of the same file that never waits; else ``fd`` itself.

    A new opening, since the old one is shared with whoever started us. For a regular file there
    is nothing to wait for; a socket cannot be opened again.
    """
    with suppress(OSError):
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{fd}", flags)
    return fd
