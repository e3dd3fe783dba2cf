"""What accept(2) tells of a newcomer and of its own failures, whatever is spoken afterwards."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from ttrpc.methods import PeerCredentials

_UCRED: Final = struct.Struct("iII")  # struct ucred, unix(7): pid, uid, gid
# accept(2): out of descriptors or memory, which passes; and a peer that left before it was taken.
OVERLOADED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PEER_LEFT: Final = frozenset({errno.ECONNABORTED, errno.EPROTO})
OVERLOAD_PAUSE_S: Final = 0.1


def credentials_of(sock: socket.socket) -> PeerCredentials | None:
    """Return who connected; ``None`` on anything but a unix socket."""
    if sock.family != socket.AF_UNIX:
        return None
    return PeerCredentials(
        *_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    )
