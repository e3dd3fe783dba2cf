"""Plays pending faults on the wire, around the handlers, which know nothing of it."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mocktee.kbs.counters import Counters
from mocktee.kbs.encoding import b64u_decode, b64u_encode, compact_json
from mocktee.kbs.errors import TYPE_PREFIX
from mocktee.kbs.faults import (
    Corrupt,
    Cut,
    Fault,
    FaultPlan,
    NeverEndingBody,
    Redirect,
    Refuse,
    Slow,
    Status,
    Throttle,
    WrongSize,
    find_fault,
)

FAULTS_OF_REQUEST: Final = web.RequestKey("faults", list[Fault])
CONTROL_PREFIX: Final = "/mock/"
_BLANKS: Final = b" " * 16384


def misbehaviour(plan: FaultPlan, counters: Counters) -> Middleware:
    """Return the outermost middleware of the application."""

    @web.middleware
    async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
        # The control interface stays out of it, or a switch could not be taken back.
        controls = request.path.startswith(CONTROL_PREFIX)
        faults = [] if controls else plan.take(request.path)
        request[FAULTS_OF_REQUEST] = faults
        counters.faults_played += len(faults)
        slow = find_fault(faults, Slow)
        if slow is not None:
            await asyncio.sleep(slow.seconds)
        instead = _answer_instead(faults)
        if instead is not None:
            await request.read()  # keeps the connection usable
            return instead
        if find_fault(faults, NeverEndingBody) is not None:
            return await _send_blanks(request)
        response = await handler(request)
        if isinstance(response, web.Response):
            return await _spoil(request, response, faults)
        return response

    return play


def _answer_instead(faults: list[Fault]) -> web.Response | None:
    """Return the answer of a fault that keeps the request from the handler."""
    for fault in faults:
        match fault:
            case Refuse():
                document = {"type": TYPE_PREFIX + fault.type, "detail": fault.detail}
                return web.Response(status=fault.status, body=json.dumps(document).encode())
            case Status():
                return web.Response(status=fault.status, text="by a fault switch\n")
            case Throttle():
                return web.Response(status=429, headers={"Retry-After": str(fault.retry_after)})
            case Redirect():
                return web.Response(status=307, headers={"Location": fault.location})
            case _:
                continue
    return None


async def _spoil(
    request: web.Request, response: web.Response, faults: list[Fault]
) -> web.StreamResponse:
    """Change or cut a good answer."""
    body = response.body if isinstance(response.body, bytes) else b""
    if find_fault(faults, Corrupt) is not None:
        body = _flip_byte(body)
    wrong_size = find_fault(faults, WrongSize)
    if wrong_size is not None:
        body = _resize(body, wrong_size)
    if find_fault(faults, Cut) is not None:
        return await _send_half(request, body)
    if body:
        response.body = body
    return response


def _flip_byte(body: bytes) -> bytes:
    """Flip one bit in the middle of the ciphertext (its tag when empty), or of any other body."""
    try:
        document = json.loads(body)
        member = "ciphertext" if document["ciphertext"] else "tag"
        document[member] = b64u_encode(_flipped(b64u_decode(document[member])))
        return compact_json(document)
    except (ValueError, TypeError, KeyError):
        return _flipped(body)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return (
        data[:middle] + bytes(byte ^ 1 for byte in data[middle : middle + 1]) + data[middle + 1 :]
    )


def _resize(body: bytes, fault: WrongSize) -> bytes:
    if fault.part == "body":
        return body.ljust(fault.size)
    try:
        document = json.loads(body)
        document[fault.part] = b64u_encode(b64u_decode(document[fault.part])[:-1])
        return compact_json(document)
    except (ValueError, TypeError, KeyError):
        return body  # no JWE: nothing to shorten


async def _send_half(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = max(len(body), 2)
    await response.prepare(request)
    await response.write(body[: len(body) // 2] or b"{")
    if request.transport is not None:
        request.transport.close()
    return response


async def _send_blanks(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        while True:
            await response.write(_BLANKS)
            await asyncio.sleep(0)  # a fast reader must not keep the loop to itself
    except ConnectionResetError:
        return response  # the client has had enough
