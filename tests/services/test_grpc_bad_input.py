"""Clients of a gRPC door that break rules: answered or closed, and others do not notice."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from h2.events import StreamReset

from serving.grpc_tables import GrpcLimits, GrpcListener
from tests.services import grpc_peers
from tests.services.grpc_peers import (
    LARGEST,
    Echo,
    RawClient,
    call,
    channel_to,
    payload_of,
    serve,
    target_of,
)
from ttrpc import MAX_DATA_BYTES

echo = grpc_peers.echo
listener = grpc_peers.listener


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"content_type": "application/json"}, {":status": "415"}),
        ({"content_type": None}, {":status": "415"}),
        ({"method": "GET"}, {":status": "405"}),
        ({"grpc_timeout": "soon"}, {"grpc-status": "3"}),
        ({"grpc_timeout": "123456789S"}, {"grpc-status": "3"}),
        ({"grpc_timeout": "0n"}, {"grpc-status": "4"}),
        ({"grpc_encoding": "gzip"}, {"grpc-status": "12"}),
        ({"path": "nonsense"}, {"grpc-status": "12"}),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_headers_that_are_wrong(
    listener: GrpcListener, changed: dict[str, str | None], expected: dict[str, str]
) -> None:
    with RawClient(listener) as raw:
        stream = raw.request(**changed)
        raw.message(payload_of("x"))
        await raw.send()
        found = await raw.trailers(stream)
        assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("payload", "announced", "end", "code"),
    [
        (b"", MAX_DATA_BYTES + 1, False, "8"),
        (b"", 0xFFFFFFFF, False, "8"),
        (b"abc", 100, True, "3"),
        (payload_of("x") + b"\0\0\0\0\0", len(payload_of("x")), True, "3"),
        (b"", 0, True, "0"),
    ],
    ids=["one too long", "lying", "cut off", "two messages", "empty"],
)
async def test_messages_that_lie(
    listener: GrpcListener, payload: bytes, announced: int, end: bool, code: str
) -> None:
    with RawClient(listener) as raw:
        stream = raw.request()
        raw.message(payload, announced=announced, end=end)
        await raw.send()
        assert (await raw.trailers(stream))["grpc-status"] == code


async def test_a_request_without_a_message(listener: GrpcListener) -> None:
    with RawClient(listener) as raw:
        stream = raw.request()
        raw.h2.end_stream(stream)
        await raw.send()
        assert (await raw.trailers(stream))["grpc-status"] == "3"


async def test_a_slow_request_is_given_up(tmp_path: Path, echo: Echo) -> None:
    async with serve(tmp_path, echo, GrpcLimits(receive_s=0.05)) as listener:
        with RawClient(listener) as raw:
            stream = raw.request()
            raw.message(b"", announced=10, end=False)
            await raw.send()
            found = await raw.trailers(stream)
            assert found["grpc-status"] == "4"
            await raw.until(StreamReset)


async def test_empty_data_frames_are_not_queued(listener: GrpcListener) -> None:
    with RawClient(listener) as raw:
        stream = raw.request()
        for _ in range(100):
            raw.h2.send_data(stream, b"")
        raw.message(payload_of("x"))
        await raw.send()
        assert (await raw.trailers(stream))["grpc-status"] == "0"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    ],
    ids=["http1", "zeros", "garbage frames"],
)
async def test_no_http2_closes_that_connection_only(listener: GrpcListener, data: bytes) -> None:
    async with channel_to(listener) as channel:
        assert await call(channel, "x") == b"x"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(target_of(listener).removeprefix("unix:"))
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, data)
            async with asyncio.timeout(20):
                while await loop.sock_recv(sock, 4096):
                    pass
        assert await call(channel, "y") == b"y"


async def test_unknown_frames_are_ignored(listener: GrpcListener) -> None:
    with RawClient(listener) as raw:
        await raw.send()
        await raw.send(b"\0\0\x04\xbe\0\0\0\0\0abcd")  # a frame of an extension, RFC 9113, 5.5
        stream = raw.request()
        raw.message(payload_of("x"))
        await raw.send()
        assert (await raw.trailers(stream))["grpc-status"] == "0"


async def test_resetting_streams_for_ever_costs_the_connection(tmp_path: Path, echo: Echo) -> None:
    async with serve(tmp_path, echo, GrpcLimits(calls_per_connection=8)) as listener:
        with RawClient(listener) as raw:
            for _ in range(64):
                stream = raw.request()
                raw.h2.reset_stream(stream)
            await raw.send()
            with suppress(ConnectionResetError):
                await raw.closed()
        async with channel_to(listener) as channel:
            assert await call(channel, "x") == b"x"


async def test_a_peer_that_takes_nothing_is_cut_off(tmp_path: Path, echo: Echo) -> None:
    async with serve(tmp_path, echo, GrpcLimits(stalled_write_s=0.1)) as listener:
        with RawClient(listener) as raw:
            raw.request()
            raw.message(payload_of(f"size:{LARGEST}"))
            await raw.send()
            async with asyncio.timeout(20):
                while not listener.server.connections:
                    await asyncio.sleep(0)
                while listener.server.connections:
                    await asyncio.sleep(0.01)


async def test_hundreds_of_idle_connections_keep_nobody_out(listener: GrpcListener) -> None:
    path = target_of(listener).removeprefix("unix:")
    loop = asyncio.get_running_loop()
    idle = []
    try:
        async with channel_to(listener) as channel:
            for number in range(400):
                sock = socket.socket(socket.AF_UNIX)
                idle.append(sock)
                sock.setblocking(False)
                await loop.sock_connect(sock, path)
                if number % 20 == 0:
                    assert await call(channel, str(number), timeout=20) == str(number).encode()
        async with channel_to(listener) as channel:
            # A unix socket refuses while its backlog is full of those that the server is taking.
            assert await call(channel, "late", timeout=20, wait_for_ready=True) == b"late"
        assert listener.server.connections <= 128
    finally:
        for sock in idle:
            sock.close()
