"""Whatever becomes of one connection to a gRPC door, the next one is served."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from h2.events import DataReceived
from hyperframe.frame import PingFrame

from serving.grpc_tables import GrpcLimits, GrpcListener
from tests.services.grpc_peers import (
    LARGEST,
    Echo,
    RawClient,
    call,
    channel_to,
    payload_of,
    serve,
)

PATIENCE_S = 20.0  # a bound on hanging, never on speed
PINGS = PingFrame(0, opaque_data=bytes(8)).serialize() * 64


async def transport_of(listener: GrpcListener) -> asyncio.Transport:
    """Return the server's side of the only connection."""
    while not (connections := listener.server._connections):
        await asyncio.sleep(0)
    (connection,) = connections
    while connection._transport is None:
        await asyncio.sleep(0)
    return connection._transport


async def test_one_that_does_not_take_the_end_keeps_nobody_out(tmp_path: Path) -> None:
    limits = GrpcLimits(connections=1, flush_s=0.1)
    async with serve(tmp_path, Echo(), limits) as listener, asyncio.timeout(PATIENCE_S):
        with RawClient(listener) as raw:
            await raw.send()
            transport = await transport_of(listener)
            # Answers that fill the socket, and less of the buffer than makes the server read no
            # more: nothing else looks at such a connection.
            while not transport.get_write_buffer_size():
                await raw.send(PINGS)
                await asyncio.sleep(0)
            async with channel_to(listener) as channel:
                assert await call(channel, "x", timeout=PATIENCE_S) == b"x"


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(GrpcLimits(reply_bytes_per_connection=LARGEST + 100), id="of-one"),
        pytest.param(GrpcLimits(reply_bytes=LARGEST + 100), id="of-all"),
    ],
)
async def test_replies_that_nobody_takes_have_a_bound(tmp_path: Path, limits: GrpcLimits) -> None:
    async with serve(tmp_path, Echo(), limits) as listener, asyncio.timeout(PATIENCE_S):
        with RawClient(listener) as raw:
            raw.request()  # its reply waits, as the window of the connection is never widened
            raw.message(payload_of(f"size:{LARGEST}"))
            await raw.send()
            await raw.until(DataReceived)
            beyond = raw.request()
            raw.message(payload_of("size:1000"))
            await raw.send()
            found = await raw.trailers(beyond)
            assert (found["grpc-status"], found["grpc-message"]) == (
                "8",
                "too many large replies at once",
            )
        async with channel_to(listener) as channel:
            while True:  # until the server has noticed that the other is gone
                with suppress(grpc.aio.AioRpcError):
                    assert len(await call(channel, "size:1000", timeout=PATIENCE_S)) == 1000
                    break


async def test_one_that_cannot_be_taken_closes_no_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    take = loop.connect_accepted_socket
    failures = iter([OSError("no such luck")])

    async def fail_first(*arguments: Any, **options: Any) -> Any:
        for failure in failures:
            raise failure
        return await take(*arguments, **options)

    async with serve(tmp_path, Echo()) as listener, asyncio.timeout(PATIENCE_S):
        monkeypatch.setattr(loop, "connect_accepted_socket", fail_first)
        with RawClient(listener) as raw:
            assert not await raw.receive()
        async with channel_to(listener) as channel:
            assert await call(channel, "x", timeout=PATIENCE_S) == b"x"
        assert not listener.serving.done()
