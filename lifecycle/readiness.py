"""Telling systemd that we serve, still live, reload or stop (sd_notify(3)). Silent elsewhere."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from secrecy.journal import get_logger

log = get_logger("lifecycle")


class Readiness:
    """Sends state lines to the socket named in ``NOTIFY_SOCKET``, if there is one."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._watchdog_seconds = _watchdog_seconds(environ)

    @property
    def watchdog_seconds(self) -> float | None:
        """Within how many seconds :meth:`alive` has to be said; None: nobody listens for it."""
        return self._watchdog_seconds

    def ready(self) -> None:
        """Call after every listener is bound, not before; and when a reload is over."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Call when a reload begins. ``notify-reload`` units of systemd 253 need the time."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={micros}")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``. Never a secret: anybody may read it."""
        self._send("STATUS=" + " ".join(text.split())[:500])

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
            log.warning("service manager not told", state=line[:40], reason=error.strerror)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """sd_watchdog_enabled(3): microseconds, and for which process they are meant."""
    micros = environ.get("WATCHDOG_USEC", "")
    if not micros.isdecimal() or int(micros) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(micros) / 1_000_000
