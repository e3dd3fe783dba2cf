"""The HTTP side: listeners, and the order in which a request is looked at. The user of aiohttp.

The low-level server is used without aiohttp's router: :mod:`rest.routes` knows the exact routes,
and a request costs little more than its parsing. A request is parsed, its caller is found, what
the caller may is decided, and only then is it answered; each is a module of its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from lifecycle import ListeningSocket, UnixAddress, listen_unix
from rest.asking import CALLER
from rest.backends import Backends
from rest.bounded_log import BoundedLog
from rest.config import BindAddress, RestConfig
from rest.connections import Connection, Connections
from rest.counts import RestCounts, route_of
from rest.descriptors import connections_with_room
from rest.errors import OverLimitError, RestConfigError
from rest.forgery import ForgeryGuard
from rest.identity import Container
from rest.limits import Admission, Place
from rest.peer import OVER_TCP, PROC, Caller, Identifier, PeerProcess
from rest.routes import (
    FORBIDDEN,
    MAX_BODY,
    Call,
    ExtendCall,
    ProbeCall,
    Reply,
    authority_of,
    route,
)
from rest.rules import Rules
from rest.service import RestService
from secrecy.journal import get_logger
from secrecy.process import CAP_SYS_PTRACE, has_capability

log = get_logger("rest")

MAX_LINE: Final = 8190  # bytes of the request line and of a header
MAX_HEADERS: Final = 48
USUAL_PEERS: Final = frozenset({"127.0.0.1", "::1"})  # parsing an address takes 15 µs
LINGER_SECONDS: Final = 2.0  # for the rest of a body that nobody wants
STOP_SECONDS: Final = 5.0
BACKLOG: Final = 128  # accepted in one go at most, so within what descriptors are reserved
SOCKET_MODE: Final = 0o666  # every user of every container that it is mounted into
TOO_LARGE: Final = Reply(413, b"Payload Too Large")
TIMED_OUT: Final = Reply(408, b"Request Timeout")
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Door:
    """What a listener does with requests. One for TCP, one for the unix socket."""

    def __init__(
        self,
        config: RestConfig,
        service: RestService,
        counts: RestCounts,
        room: int,
        identifier: Identifier | None,
    ) -> None:
        """``identifier`` is None for TCP, where nobody can be told from anybody.

        ``room`` is for how many connections there are descriptors.
        """
        self._service = service
        self._counts = counts
        self._limits = config.limits
        self._rules = Rules.of(config.rules)
        self._admission = Admission(config.limits)
        self._identifier = identifier
        self._forgery = None
        if identifier is None and config.required_header is not None:
            self._forgery = ForgeryGuard.parse(config.required_header, config.hosts)
        # One thread of its own: many who connect keep it busy, and nobody else's work waits.
        self._looking = ThreadPoolExecutor(1, "rest-peer") if identifier is not None else None
        self._log = BoundedLog()
        server = web.Server(
            self._handle,
            # A caller who hangs up takes the work for it along.
            handler_cancellation=True,
            access_log=None,
            logger=_library_logger(),
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
            lingering_time=LINGER_SECONDS,
            keepalive_timeout=config.limits.keep_alive_seconds,
        )
        self.server = server
        self.connections = Connections(
            server, config.limits, room, identifies=identifier is not None
        )

    async def close(self) -> None:
        """Let requests in flight finish for a few seconds, then close all connections."""
        self.server.pre_shutdown()
        await self.server.shutdown(STOP_SECONDS)
        self.connections.abort_all()
        if self._looking is not None:
            self._looking.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = self.connections.of(request.protocol)
        if connection is None:
            return web.Response(status=503)  # closed meanwhile: nobody reads this
        call = route(request.method, request.raw_path, self._service.feature)
        # What a request takes up is given back when its answer was taken, not when it was made.
        with connection.answering(), self._admission.place() as place:
            reply = await self._reply(request, connection, call, place)
            self._counts.add(route_of(call), reply.status)
            return await self._send(request, reply)

    async def _reply(
        self, request: web.BaseRequest, connection: Connection, call: Call | Reply, place: Place
    ) -> Reply:
        if self._identifier is None and not _is_local(request):
            return FORBIDDEN
        if isinstance(call, ProbeCall):
            return await self._service.answer(call, b"")
        caller = await self._caller(connection)
        CALLER.set(caller)
        try:
            place.take(limits_key(caller), asyncio.get_running_loop().time())
            reply = await self._admitted(request, caller, call)
            place.hold(len(reply.body))
        except OverLimitError as error:
            self._log.warning("request refused", caller=str(caller), answer=str(error))
            status = 429 if error.callers else 503
            return Reply(status, str(error).encode(), retry_after=error.retry_after)
        return reply

    async def _admitted(
        self, request: web.BaseRequest, caller: Caller, call: Call | Reply
    ) -> Reply:
        refusal = self._refusal(request, caller, call)
        if refusal is not None:
            self._log.warning("request refused", caller=str(caller), answer=refusal.body.decode())
            return refusal
        if isinstance(call, Reply):
            return call
        body = await self._read_body(request) if isinstance(call, ExtendCall) else b""
        return body if isinstance(body, Reply) else await self._service.answer(call, body)

    def _refusal(
        self, request: web.BaseRequest, caller: Caller, call: Call | Reply
    ) -> Reply | None:
        if self._forgery is not None:
            forged = self._forgery.refusal(
                request.headers.getall(self._forgery.name, []),
                request.headers.getall("Host", []),
                authority_of(request.raw_path),
            )
            if forged is not None:
                return forged
        return None if isinstance(call, Reply) else self._rules.refusal(caller, call)

    async def _caller(self, connection: Connection) -> Caller:
        """Return who is at the other end. Found once for each connection."""
        if self._identifier is None:
            return OVER_TCP
        if connection.caller is None:
            if isinstance(connection.peer, PeerProcess):
                found = await asyncio.get_running_loop().run_in_executor(
                    self._looking, self._identifier.identify, connection.peer
                )
            else:
                found = connection.peer
            connection.caller = found
        return connection.caller

    async def _read_body(self, request: web.BaseRequest) -> bytes | Reply:
        """Read at most ``MAX_BODY`` bytes within ``limits.body_seconds``."""
        if (request.content_length or 0) > MAX_BODY:
            return TOO_LARGE
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(CONTINUE)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY:
                        return TOO_LARGE
        except TimeoutError:
            return TIMED_OUT
        return bytes(body)

    async def _send(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Send all of the answer while the request still counts: an answer takes memory."""
        headers = {"Content-Type": reply.content_type, "Server": "api-server-rest"}
        if reply.retry_after is not None:
            headers["Retry-After"] = str(reply.retry_after)
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        try:
            async with asyncio.timeout(self._limits.send_seconds):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            log.info("answer not taken", seconds=self._limits.send_seconds)
            if request.transport is not None:
                request.transport.abort()
        return response


def _is_ours(record: logging.LogRecord) -> bool:
    """False for what the HTTP library logs of a client that sends no HTTP: it is told, no more."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def _library_logger() -> logging.Logger:
    logger = logging.getLogger("aiohttp.server.rest")
    logger.addFilter(_is_ours)
    return logger


def limits_key(caller: Caller) -> tuple[str, str]:
    """Return whose limits count. All who cannot be told apart share one."""
    return type(caller).__name__, caller.id if isinstance(caller, Container) else ""


def _is_local(request: web.BaseRequest) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if peer is None:
        return False
    return peer[0] in USUAL_PEERS or ipaddress.ip_address(peer[0]).is_loopback


def _warn_if_powerless() -> None:
    """proc(5): without this power the kernel hides the root directory of a more powerful process.

    Its caller is unidentified then, so nothing is given away, but rules for containers fit nobody.
    """
    if not has_capability(CAP_SYS_PTRACE):
        log.warning(
            "containers cannot be told apart without CAP_SYS_PTRACE",
            hint="install systemd/cguestd-callers.conf",
        )


@asynccontextmanager
async def open_rest(
    config: RestConfig,
    backends: Backends,
    *,
    counts: RestCounts | None = None,
    passed: ListeningSocket | None = None,
    proc: Path = PROC,
) -> AsyncIterator[BindAddress]:
    """Listen and serve; yields the TCP address with the port really bound.

    ``counts`` is told of every answer. ``passed`` is the unix socket where it is listening
    already, as a service manager passes it; ``proc`` is where procfs is mounted. At the end stops
    accepting, lets requests in flight finish for a few seconds, then closes; the backends stay
    open. Raises :class:`RestConfigError` if the settings cannot work or the address cannot be
    bound, and ``lifecycle.SocketError``.
    """
    config.check()
    service = RestService(config.feature, backends, config.evidence, config.token)
    counts = counts if counts is not None else RestCounts()
    async with AsyncExitStack() as stack:
        listening = _listen_tcp(BindAddress.parse(config.bind))
        stack.callback(listening.close)
        bound = BindAddress(*listening.getsockname()[:2])
        # TCP, the unix socket, and the process at its other end.
        per_connection = 1 if config.socket is None else 3
        room = connections_with_room(config.limits.connections, per_connection)
        doors = [(Door(config, service, counts, room, None), listening)]
        if config.socket is not None:
            _warn_if_powerless()
            unix = passed or await listen_unix(UnixAddress.parse(config.socket), mode=SOCKET_MODE)
            stack.callback(unix.close)
            identifier = Identifier(proc, Path(config.bundles))
            doors.append((Door(config, service, counts, room, identifier), unix.sock))
        await stack.enter_async_context(_serving(doors))
        yield bound


@asynccontextmanager
async def _serving(doors: Sequence[tuple[Door, socket.socket]]) -> AsyncIterator[None]:
    """Accept on all; at the end stop accepting on all before anything else is waited for."""
    loop = asyncio.get_running_loop()
    accepting: list[asyncio.Server] = []
    try:
        for door, sock in doors:
            is_unix = sock.family == socket.AF_UNIX
            make = loop.create_unix_server if is_unix else loop.create_server
            accepting.append(await make(door.connections, sock=sock, backlog=BACKLOG))
        yield
    finally:
        for server in accepting:
            server.close()
        await asyncio.gather(*(door.close() for door, _ in doors))


def _listen_tcp(address: BindAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise RestConfigError(
            "bind",
            f"listening on {address.host} port {address.port}: {reason}",
            hint="stop the other server, or choose another port with --bind",
        ) from error
    return sock
