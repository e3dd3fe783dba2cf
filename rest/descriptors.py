"""File descriptors: as many connections as the process has room for, so that accepting never fails.

A process that runs out of descriptors cannot accept, on any of its sockets, and cannot open a file
either: one client that connects often enough would stop everything else in it.
"""

from __future__ import annotations

import resource
from typing import Final

from secrecy.journal import get_logger

log = get_logger("rest")

RESERVED: Final = 512  # for everything else in the process: files, sockets, mounts


def connections_with_room(wanted: int, per_connection: int) -> int:
    """Return how many connections may be open, at most ``wanted``.

    ``per_connection`` is how many descriptors one takes, on all listeners together. Raises the
    soft limit of the process as far as is needed and as the hard limit lets it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = RESERVED + wanted * per_connection
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if raised > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    # With less than is reserved, half of what there is.
    room = max(raised - RESERVED, raised // 2) // per_connection
    if room >= wanted:
        return wanted
    log.warning("fewer connections than configured", connections=room, descriptors=raised)
    return max(1, room)
