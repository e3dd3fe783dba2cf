"""Telling systemd that we serve, still live, or stop (sd_notify(3)). Silent elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from secrecy.journal import get_logger

log = get_logger("lifecycle")


class Readiness:
    """Sends state lines to the socket named in ``NOTIFY_SOCKET``, if there is one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        micros = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(micros) / 2_000_000 if micros.isdecimal() else None

    def ready(self) -> None:
        """Call after every listener is bound, not before."""
        self._send("READY=1")

    def alive(self) -> None:
        """Call after a request of our own was answered, so that a hung loop is noticed."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.sendto(line.encode(), self._address)
        except OSError as error:
            # A service manager that went away, or does not read, is no reason to stop serving.
            log.warning("service manager not told", state=line, reason=error.strerror)
