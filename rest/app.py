"""The HTTP side: requests in, calls to the backends, answers out. The one user of aiohttp here.

The low-level server is used without aiohttp's router: :mod:`rest.routes` knows the exact routes,
and a request costs little more than its parsing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, assert_never

from aiohttp import web

from rest.backends import Backends
from rest.config import BindAddress, RestConfig
from rest.errors import BackendError, RestConfigError
from rest.routes import (
    FORBIDDEN,
    MAX_BODY,
    OCTETS,
    Call,
    EvidenceCall,
    ExtendCall,
    Feature,
    InfoCall,
    Reply,
    ResourceCall,
    TokenCall,
    extend_reply,
    info_reply,
    parse_event,
    route,
)
from secrecy.journal import get_logger

log = get_logger("rest")

MAX_LINE: Final = 8190  # bytes of the request line and of a header
BODY_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
TOO_LARGE: Final = Reply(413, b"Payload Too Large")
TIMED_OUT: Final = Reply(408, b"Request Timeout")


@dataclass(frozen=True, slots=True)
class RestService:
    """Answers requests with two backends. Knows no session and keeps nothing."""

    feature: Feature
    backends: Backends

    async def answer(self, call: Call, body: bytes) -> Reply:
        """Return the reply to ``call``. A backend that fails gives 500 with text and cause."""
        try:
            return await self._perform(call, body)
        except BackendError as error:
            log.warning("request failed", call=type(call).__name__, cause=str(error))
            return Reply(500, str(error).encode())

    async def _perform(self, call: Call, body: bytes) -> Reply:
        match call:
            case ResourceCall(uri):
                return Reply(
                    200, (await self.backends.resources.get_resource(uri)).reveal(), OCTETS
                )
            case TokenCall(token_type):
                token = await self.backends.attestation.token(token_type)
                return Reply(200, token.reveal(), OCTETS)
            case EvidenceCall(runtime_data, additional):
                attestation = self.backends.attestation
                ask = attestation.additional_evidence if additional else attestation.evidence
                return Reply(200, await ask(runtime_data), OCTETS)
            case ExtendCall():
                return await self._extend(body)
            case InfoCall():
                return await self._info()
            case unknown:
                assert_never(unknown)

    async def _extend(self, body: bytes) -> Reply:
        event = parse_event(body)
        if isinstance(event, Reply):
            return event
        result = await self.backends.attestation.extend(
            event.domain, event.operation, event.content
        )
        return extend_reply(result)

    async def _info(self) -> Reply:
        tee, additional = None, list[str]()
        if self.feature.has_attestation:
            tee = await self.backends.attestation.tee()
            additional = await self.backends.attestation.additional_tees()
        return info_reply(_own_version(), tee, additional, self.feature.value)


def _own_version() -> str:
    try:
        return version("confidential-guest")
    except PackageNotFoundError:
        return "source tree"


async def _read_body(request: web.BaseRequest) -> bytes | Reply:
    """Read at most ``MAX_BODY`` bytes within ``BODY_SECONDS``."""
    if (request.content_length or 0) > MAX_BODY:
        return TOO_LARGE
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    return TOO_LARGE
    except TimeoutError:
        return TIMED_OUT
    return bytes(body)


def _is_local(request: web.BaseRequest) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return peer is not None and ipaddress.ip_address(peer[0]).is_loopback


def _to_response(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, headers={"Content-Type": reply.content_type}
    )


def make_server(service: RestService) -> web.Server:
    """Return an aiohttp low-level server that answers with ``service``."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if not _is_local(request):
            return _to_response(FORBIDDEN)
        call = route(request.method, request.raw_path, service.feature)
        if isinstance(call, Reply):
            return _to_response(call)
        body = await _read_body(request) if isinstance(call, ExtendCall) else b""
        if isinstance(body, Reply):
            return _to_response(body)
        return _to_response(await service.answer(call, body))

    return web.Server(
        handle,
        # A caller who hangs up takes the work for it along.
        handler_cancellation=True,
        access_log=None,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
    )


@asynccontextmanager
async def open_rest(config: RestConfig, backends: Backends) -> AsyncIterator[BindAddress]:
    """Listen and serve; yields the address with the port really bound.

    At the end stops accepting, lets requests in flight finish for a few seconds, then closes; the
    backends stay open. Raises :class:`RestConfigError` if the settings cannot work or the address
    cannot be bound.
    """
    config.check()
    address = BindAddress.parse(config.bind)
    service = RestService(config.feature, backends)
    runner = web.ServerRunner(make_server(service), shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise RestConfigError(
                "bind",
                f"listening on {address.host} port {address.port}: {reason}",
                hint="stop the other server, or choose another port with --bind",
            ) from error
        host, port = runner.addresses[0][:2]
        yield BindAddress(host, port)
    finally:
        await runner.cleanup()
