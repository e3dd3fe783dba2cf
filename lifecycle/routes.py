"""Tells when this guest's network changes: an address or a route has come.

Started before the network as kata-agent starts it, a guest would wait out its pauses although the
way has long been there. Listens on a netlink socket of the kernel (rtnetlink(7), multicast groups
for addresses and routes) and reads no more of a message than its kind: what the way is, the next
attempt finds out. Not with pyroute2, whose asyncio sockets do not work on uvloop and whose import
takes a fifth of a second.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from secrecy.journal import get_logger

log = get_logger("network")

# linux/rtnetlink.h
GROUPS: Final = 0x10 | 0x40 | 0x100 | 0x400  # IPv4 and IPv6, addresses and routes
RTM_NEWADDR: Final = 20
RTM_NEWROUTE: Final = 24
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
RECEIVE_BYTES: Final = 64 * 1024
# A network that comes up sends a dozen events within milliseconds; this makes one of them.
SETTLE_SECONDS: Final = 0.1


class RouteEvents:
    """``async with`` listens; where the kernel gives no such socket, nothing is ever told."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._sleepers: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self._settling: asyncio.TimerHandle | None = None

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each change. It must neither block nor raise."""
        self._listeners.append(listener)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the network has changed."""
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.add(woken)
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            self._sleepers.discard(woken)

    async def __aenter__(self) -> Self:
        try:
            self._socket = _open_socket()
        except OSError as error:
            log.warning("network changes are not noticed", cause=error.strerror)
            return self
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._settling is not None:
            self._settling.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            content, sender = self._socket.recvfrom(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._note()  # ENOBUFS: so many events that some are lost, hence a change
            return
        if sender[0] == 0 and brings_way(content):  # port 0: the kernel and nobody else
            self._note()

    def _note(self) -> None:
        if self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(SETTLE_SECONDS, self._tell)

    def _tell(self) -> None:
        self._settling = None
        log.info("network changed")
        for woken in self._sleepers:
            if not woken.done():
                woken.set_result(None)
        for listener in self._listeners:
            listener()


def _open_socket() -> socket.socket:
    listening = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
        socket.NETLINK_ROUTE,
    )
    try:
        listening.bind((0, GROUPS))
    except OSError:
        listening.close()
        raise
    return listening


def brings_way(content: bytes) -> bool:
    """Whether one of the netlink messages in ``content`` is about a new address or route."""
    at = 0
    while len(content) - at >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(content, at)
        if kind in {RTM_NEWADDR, RTM_NEWROUTE}:
            return True
        if length < _HEADER.size:
            return False
        at += -(-length // 4) * 4
    return False
