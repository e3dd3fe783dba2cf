"""A small KBS for the client's tests: the protocol's shape, no judgement, any misbehaviour.

It shares no code with ``kbs``. Whether evidence is good is the business of the mock KBS of the
harness; this one is for what a server can do wrong on the wire.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.wire.kbs_sealing import make_token, seal

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "0123456789abcdef0123456789abcdef"
NONCE = "Vaou/NLWfwVLK5Yzkoa6t+v3FYW/QRKUs8sZhkLDIaM="


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class FakeKbs:
    """Answers ``/auth``, ``/attest`` and resources; plays queued faults first, one per request."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.resources: dict[str, bytes] = {"default/key/1": b"the secret"}
        self.denied: set[str] = set()
        self.token_life = 300.0
        self.set_cookie: tuple[str, ...] = (f"kbs-session-id={COOKIE}; Expires=later",)
        self.challenge: dict[str, Any] = {"nonce": NONCE, "extra-params": ""}
        self.refuse_evidence = ""
        self.tokens: dict[str, dict[str, str]] = {}
        self.released = asyncio.Event()
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def play(self, step: str, *faults: Fault) -> None:
        """Queue faults for a step: ``auth``, ``attest`` or ``resource``."""
        self._faults[step].extend(faults)

    def targets(self) -> list[str]:
        return [f"{seen.method} {seen.target}" for seen in self.seen]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        seen = Seen(request.method, request.path_qs, dict(request.headers), body)
        self.seen.append(seen)
        step = request.path.removeprefix("/kbs/v0/").partition("/")[0]
        if self._faults[step]:
            return await self._faults[step].popleft()(request)
        match step:
            case "auth":
                answer = web.json_response(self.challenge)
                for cookie in self.set_cookie:
                    answer.headers.add("Set-Cookie", cookie)
                return answer
            case "attest":
                return self._attest(seen)
            case _:
                return self._resource(request)

    def _attest(self, seen: Seen) -> web.Response:
        attestation = json.loads(seen.body)
        if seen.headers.get("Cookie") != f"kbs-session-id={COOKIE}":
            return problem(401, "AttestationError", "no such session")
        if self.refuse_evidence:
            return problem(401, "AttestationError", self.refuse_evidence)
        token = make_token({"n": len(self.tokens), "exp": time.time() + self.token_life})
        self.tokens[token] = attestation["runtime-data"]["tee-pubkey"]
        return web.json_response({"token": token})

    def _resource(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return problem(401, "TokenVerifierError", "Token Verifier error")
        path = request.path.removeprefix("/kbs/v0/resource/")
        if path in self.denied:
            return problem(401, "PolicyDeny", "Access denied by policy")
        if path not in self.resources:
            return problem(401, "PluginInternalError", "Plugin internal error")
        return web.json_response(seal(self.tokens[token], self.resources[path]))

    # Faults.

    async def silence(self, _request: web.Request) -> web.StreamResponse:
        """Say nothing until the test is over."""
        await self.released.wait()
        raise web.HTTPServiceUnavailable

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """Begin an answer and never end it."""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"nonce": "')
        await self.released.wait()
        return response

    @staticmethod
    async def flood(request: web.Request) -> web.StreamResponse:
        """Send without end, for as long as anybody reads."""
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b" " * 65536)
        return response

    @staticmethod
    async def cut(request: web.Request) -> web.StreamResponse:
        """Announce a body, send half of it and break the connection."""
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        assert request.transport is not None
        request.transport.close()
        return response

    @staticmethod
    async def hang_up(request: web.Request) -> web.StreamResponse:
        """Break the connection without an answer."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


def answer(status: int, body: bytes = b"", **headers: str) -> Fault:
    """A complete answer of any kind; ``Retry_After`` stands for ``Retry-After``."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return fault


def compressed(value: object) -> Fault:
    return answer(200, gzip.compress(json.dumps(value).encode()), Content_Encoding="gzip")


def problem(status: int, name: str, detail: str) -> web.Response:
    """An error as Trustee writes it: without a Content-Type that says JSON."""
    type_uri = f"https://github.com/confidential-containers/kbs/errors/{name}"
    return web.Response(
        status=status, body=json.dumps({"type": type_uri, "detail": detail}).encode()
    )


def problem_fault(status: int, name: str, detail: str = "") -> Fault:
    async def fault(_request: web.Request) -> web.StreamResponse:
        return problem(status, name, detail)

    return fault


@asynccontextmanager
async def running(
    tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[FakeKbs]:
    """Serve on ``port``, or a free one, until the block ends."""
    kbs = FakeKbs()
    runner = web.AppRunner(
        _application(kbs), access_log=None, shutdown_timeout=0.5, max_field_size=256 * 1024
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        kbs.url = f"{'https' if tls else 'http'}://{host}:{port}"
        yield kbs
    finally:
        kbs.released.set()
        await runner.cleanup()


def _application(kbs: FakeKbs) -> web.Application:
    application = web.Application(client_max_size=4 * 1024 * 1024)
    application.router.add_route("*", "/{tail:.*}", kbs.handle)
    return application
