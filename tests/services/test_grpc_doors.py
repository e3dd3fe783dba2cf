"""Service tables over gRPC, called by grpcio: an implementation that shares nothing with ours."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from h2.events import ConnectionTerminated

from lifecycle import SocketError, UnixAddress
from serving.doors import GrpcDoor, LoopbackAddress
from serving.grpc_tables import GrpcLimits, GrpcListener, open_grpc
from tests.services import grpc_peers
from tests.services.grpc_peers import (
    GET,
    LARGEST,
    OPTIONS,
    SERVICE,
    Echo,
    RawClient,
    call,
    channel_to,
    payload_of,
    serve,
    status_of,
    target_of,
)
from ttrpc import MAX_DATA_BYTES, Code, PeerCredentials, ServiceTableError
from ttrpc.envelope_pb2 import Status

echo = grpc_peers.echo
listener = grpc_peers.listener


async def test_a_call_is_answered(listener: GrpcListener) -> None:
    async with channel_to(listener) as channel:
        assert await call(channel, "kbs:///a/b/c") == b"kbs:///a/b/c"
        assert await call(channel, "ä") == "ä".encode()
        assert await call(channel, "") == b""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_call_on_loopback_has_no_credentials(echo: Echo, host: str) -> None:
    address = GrpcDoor(LoopbackAddress(host, 0))
    async with open_grpc([echo.table()], address) as listener, channel_to(listener) as channel:
        assert await call(channel, "x") == b"x"
    assert echo.contexts[0].peer is None


async def test_a_call_on_a_unix_socket_has_credentials(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        await call(channel, "x")
    assert echo.contexts[0].peer == PeerCredentials(os.getpid(), os.getuid(), os.getgid())
    assert isinstance(listener.address.target, UnixAddress)
    assert stat.S_IMODE(os.stat(listener.address.target.path).st_mode) == 0o600


async def test_metadata_and_deadline_reach_the_handler(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        await call(channel, "x", timeout=30, metadata=(("one", "1"), ("two", "a"), ("two", "b")))
        await call(channel, "x")
    first, second = echo.contexts
    assert dict(first.metadata) == {"one": ("1",), "two": ("a", "b")}
    assert first.deadline is not None and second.deadline is None


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_every_code_arrives(listener: GrpcListener, code: Code) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, f"code:{int(code)}")
    assert error.code().value[0] == int(code)
    assert error.details() == "as asked"


async def test_a_refusal_is_marked_in_the_details(listener: GrpcListener) -> None:
    text = "[CDH] [ERROR]: Get Resource failed: 100 % „no“\n."
    async with channel_to(listener) as channel:
        error = await status_of(channel, f"refuse:{text}")
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == text
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = Status.FromString(details)
    assert status.code == Code.INTERNAL
    assert [detail.type_url for detail in status.details] == ["cguest.v1.Refusal"]


async def test_a_long_text_is_cut(listener: GrpcListener) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, "refuse:" + "x" * 100_000)
        assert 1000 < len(error.details() or "") < 4096
        error = await status_of(channel, "refuse:" + "\U0001f512" * 10_000)
        assert set(error.details() or "") == {"\U0001f512"}


async def test_a_broken_handler_tells_nothing(listener: GrpcListener) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, "break:")
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert error.details() == f"{GET} failed unexpectedly"


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("/api.Nothing/GetResource", 12, "api.Nothing service does not exist"),
        (f"/{SERVICE}/Nothing", 12, f"/{SERVICE}/Nothing method"),
        (f"/{SERVICE}/Absent", 5, "/a.B/Absent is not supported"),
        (f"/{SERVICE}/Watch", 12, f"/{SERVICE}/Watch streams; only ttRPC serves it"),
    ],
)
async def test_absent_methods(listener: GrpcListener, method: str, code: int, text: str) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, "x", method=method)
    assert error.code().value[0] == code
    assert error.details() == text


async def test_garbage_instead_of_a_message(listener: GrpcListener) -> None:
    async with channel_to(listener) as channel:
        bare = channel.unary_unary(GET)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bare(b"\x0a\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "are not such a message" in (caught.value.details() or "")
        assert await call(channel, "still") == b"still"


async def test_compression_is_refused(listener: GrpcListener) -> None:
    target = target_of(listener)
    gzip = grpc.Compression.Gzip
    async with grpc.aio.insecure_channel(target, compression=gzip, options=OPTIONS) as channel:
        error = await status_of(channel, "x" * 10_000)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_deadline_ends_a_handler(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, "wait:", timeout=0.1)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(20):
            await echo.cancelled.wait()


async def test_a_client_that_cancels_ends_the_handler(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        waiting = asyncio.create_task(call(channel, "wait:"))
        await echo.began.wait()
        waiting.cancel()
        async with asyncio.timeout(20):
            await echo.cancelled.wait()
        assert await call(channel, "x") == b"x"


async def test_a_client_that_leaves_ends_the_handler(listener: GrpcListener, echo: Echo) -> None:
    with RawClient(listener) as raw:
        raw.request()
        raw.message(payload_of("wait:"))
        await raw.send()
        await echo.began.wait()
    async with asyncio.timeout(20):
        await echo.cancelled.wait()
        while listener.server.connections:
            await asyncio.sleep(0)


async def test_the_largest_message_passes_both_ways(listener: GrpcListener) -> None:
    async with channel_to(listener) as channel:
        assert len(await call(channel, "y" * LARGEST)) == LARGEST
        assert len(await call(channel, f"size:{LARGEST}")) == LARGEST


@pytest.mark.parametrize("text", ["y" * (LARGEST + 1), f"size:{LARGEST + 1}"], ids=["in", "out"])
async def test_one_byte_more_is_refused(listener: GrpcListener, text: str) -> None:
    async with channel_to(listener) as channel:
        error = await status_of(channel, text)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        size = MAX_DATA_BYTES
        expected = f"message length {size + 1} exceed maximum message size of {size}"
        assert error.details() == expected
        assert await call(channel, "still") == b"still"


async def test_calls_of_one_connection_run_together(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        calls = [asyncio.create_task(call(channel, f"wait:{n}")) for n in range(64)]
        async with asyncio.timeout(20):
            while echo.running < len(calls):
                await asyncio.sleep(0)
        echo.go_on.set()
        assert await asyncio.gather(*calls) == [f"wait:{n}".encode() for n in range(64)]
    assert echo.most == 64


async def test_large_requests_beyond_the_budget_are_refused(tmp_path: Path, echo: Echo) -> None:
    limits = GrpcLimits(request_bytes_per_connection=3000)
    async with serve(tmp_path, echo, limits) as listener, channel_to(listener) as channel:
        first = asyncio.create_task(call(channel, "wait:" + "x" * 2000))
        await echo.began.wait()
        error = await status_of(channel, "x" * 2000)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        echo.go_on.set()
        assert len(await first) == 2005
        assert len(await call(channel, "x" * 2900)) == 2900


async def test_a_full_house_sends_the_idle_one_away(tmp_path: Path, echo: Echo) -> None:
    limits = GrpcLimits(connections=2)
    async with (
        serve(tmp_path, echo, limits) as listener,
        channel_to(listener) as busy,
        channel_to(listener) as idle,
        channel_to(listener) as new,
    ):
        waiting = asyncio.create_task(call(busy, "wait:"))
        await echo.began.wait()
        assert await call(idle, "1") == b"1"
        assert await call(new, "2") == b"2"
        assert listener.server.connections <= 2
        assert await call(idle, "3") == b"3"  # by a new connection, unnoticed
        echo.go_on.set()
        assert await waiting == b"wait:"


async def test_draining_lets_calls_finish(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        waiting = asyncio.create_task(call(channel, "wait:"))
        await echo.began.wait()
        draining = asyncio.create_task(listener.drain(20))
        await asyncio.sleep(0)
        echo.go_on.set()
        assert await waiting == b"wait:"
        await draining
        await listener.wait_closed()
    assert listener.server.connections == 0


async def test_draining_cuts_off_in_the_end(listener: GrpcListener, echo: Echo) -> None:
    async with channel_to(listener) as channel:
        waiting = asyncio.create_task(status_of(channel, "wait:"))
        await echo.began.wait()
        await listener.drain(0.05)
        assert echo.cancelled.is_set()
        assert (await waiting).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_new_call_while_draining_is_unavailable(listener: GrpcListener, echo: Echo) -> None:
    with RawClient(listener) as raw:
        raw.request()
        raw.message(payload_of("wait:"))
        await raw.send()
        await echo.began.wait()
        draining = asyncio.create_task(listener.drain(20))
        await raw.until(ConnectionTerminated)
        raw.reopen()
        stream = raw.request()
        raw.message(payload_of("x"))
        await raw.send()
        assert (await raw.trailers(stream))["grpc-status"] == "14"
        echo.go_on.set()
        await draining


async def test_a_taken_port_is_said(echo: Echo) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = GrpcDoor(LoopbackAddress("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(SocketError):
            async with open_grpc([echo.table()], address):
                pass


async def test_two_tables_of_one_name_are_refused(tmp_path: Path, echo: Echo) -> None:
    with pytest.raises(ServiceTableError):
        async with open_grpc([echo.table(), echo.table()], GrpcDoor(UnixAddress("/nowhere"))):
            pass
