"""The mock KMS on loopback: one TLS listener for both gateways, a plain one for metadata."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from mocktee.kms.gateway import GatewayRefusalError, answer
from mocktee.kms.keys import MockKeys
from mocktee.kms.openapi import OpenApi

METADATA = "/latest/meta-data/ram/security-credentials/"


@dataclass(slots=True)
class MockKms:
    """A running mock. ``answers`` holds replies to give, in turn, instead of the right one."""

    keys: MockKeys
    openapi: OpenApi
    clock: Callable[[], float]
    url: str = ""  # of both gateways, ends without a slash
    metadata_url: str = ""
    roles: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: deque[tuple[int, bytes]] = field(default_factory=deque)
    hang: bool = False
    calls: Counter[str] = field(default_factory=Counter)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @asynccontextmanager
    async def start(
        cls, tls: ssl.SSLContext, *, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[MockKms]:
        """Listen on loopback until the block ends."""
        keys = MockKeys()
        mock = cls(keys, OpenApi(keys), clock)
        async with AsyncExitStack() as stack:
            stack.callback(mock._stopped.set)
            port = await _listen(stack, mock._gateways, tls)
            mock.url = f"https://localhost:{port}"
            mock.metadata_url = f"http://127.0.0.1:{await _listen(stack, mock._metadata, None)}"
            yield mock

    def add_role(self, role: str, key_id: str, secret: str, token: str) -> None:
        """Give the machine a role with a temporary access key."""
        self.openapi.access_keys[key_id] = (secret, token)
        self.roles[role] = {
            "AccessKeyId": key_id, "AccessKeySecret": secret, "SecurityToken": token,
            "Code": "Success",
        }  # fmt: skip

    async def _gateways(self, request: web.BaseRequest) -> web.Response:
        body = await request.read()
        name = request.headers.get("x-kms-apiname") or request.query.get("Action", "?")
        self.calls[name] += 1
        if self.hang:
            await self._stopped.wait()
        if self.answers:
            status, content = self.answers.popleft()
            return web.Response(status=status, body=content)
        if request.query:
            status, content = self.openapi.answer(request.query, self.clock())
            return web.Response(status=status, body=content)
        try:
            return web.Response(body=answer(self.keys, request.headers, body, self.clock()))
        except GatewayRefusalError as error:
            return web.Response(status=error.status, body=error.body())

    async def _metadata(self, request: web.BaseRequest) -> web.Response:
        self.calls["metadata"] += 1
        role = self.roles.get(request.path.removeprefix(METADATA))
        if role is None:
            return web.Response(status=404)
        return web.Response(body=json.dumps(role).encode())


async def _listen(
    stack: AsyncExitStack,
    handler: Callable[[web.BaseRequest], Awaitable[web.Response]],
    tls: ssl.SSLContext | None,
) -> int:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port: int = runner.addresses[0][1]
    return port
