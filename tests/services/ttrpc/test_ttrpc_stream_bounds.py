"""Streams that are not taken from hold up their own peer, and nobody for ever."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

import ttrpc.exchange
from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import PATIENCE_S, Rig, call, next_of
from tests.services.ttrpc.streaming import STREAMING, StreamingService
from ttrpc import (
    Client,
    Code,
    ConnectionLostError,
    DuplexCall,
    Limits,
    StatusError,
    StreamBacklogError,
)

PIECE = 100_000
BOUND = 10 * PIECE
PATIENT = Limits(request_bytes_per_connection=BOUND, crowded_s=PATIENCE_S)
STRICT = Limits(request_bytes_per_connection=BOUND, crowded_s=0.05)


@pytest.fixture
def service() -> StreamingService:
    return StreamingService()


def message(number: int) -> Asked:
    return Asked(ResourcePath=f"{number} ".ljust(PIECE, "x"))


async def send_for_ever(stream: DuplexCall[Message, Answer]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for number in itertools.count():
            await stream.send(message(number))


async def pour(client: Client, count: int, entered: asyncio.Event) -> None:
    """Send so many messages to a handler that takes none until it is released."""
    async with client.duplex(STREAMING, "Hold", Answer) as stream:
        entered.set()
        for number in range(count):
            await stream.send(message(number))
        await stream.close_sending()
        assert [each async for each in stream] == []


async def test_a_client_waits_for_a_handler_that_takes_nothing(
    tmp_path: Path, service: StreamingService
) -> None:
    async with (
        Rig.running(tmp_path, PATIENT, [service.table()]) as rig,
        await rig.client() as client,
        await rig.client() as other,
        asyncio.TaskGroup() as group,
    ):
        pouring = group.create_task(pour(client, 200, asyncio.Event()))
        await next_of(service.entered)
        (connection,) = [each for each in rig.server._connections if each._streams]
        async with asyncio.timeout(PATIENCE_S):
            while client._exchange._may_write.is_set():
                await asyncio.sleep(0)
        assert connection._budget.held <= BOUND + 2 * PIECE
        assert await call(other, "Echo", "other") == b"other"
        assert not pouring.done()
        service.release.set()
        await pouring
        taken = await next_of(service.taken, 200)
        assert [text.split()[0] for text in taken] == [str(number) for number in range(200)]
        assert connection._budget.held == 0


async def test_a_stream_that_is_never_taken_from_makes_room_for_the_other_calls(
    tmp_path: Path, service: StreamingService
) -> None:
    async with (
        Rig.running(tmp_path, STRICT, [service.table()]) as rig,
        await rig.client() as client,
        client.duplex(STREAMING, "Hold", Answer) as slow,
        client.duplex(STREAMING, "Echo", Answer) as quick,
    ):
        with pytest.raises(StatusError) as caught:
            await send_for_ever(slow)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert caught.value.message == "Stream id 1: too much data that was not taken"
        assert await next_of(service.left) == ["cancelled"]
        assert await call(client, "Echo", "unary") == b"unary"
        await quick.send(Asked(ResourcePath="quick"))
        assert (await anext(quick)).Resource == b"quick"


async def test_empty_messages_count_as_well(tmp_path: Path, service: StreamingService) -> None:
    limits = Limits(request_bytes_per_connection=6400, crowded_s=0.05)
    async with (
        Rig.running(tmp_path, limits, [service.table()]) as rig,
        await rig.client() as client,
        client.duplex(STREAMING, "Hold", Answer) as stream,
    ):
        for _ in range(200):
            await stream.send(Asked())
        with pytest.raises(StatusError, match="RESOURCE_EXHAUSTED"):
            await anext(stream)
        assert await call(client, "Echo", "unary") == b"unary"


@pytest.fixture
async def filling(
    tmp_path: Path, service: StreamingService, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_BYTES", BOUND)
    async with (
        Rig.running(tmp_path, tables=[service.table()]) as rig,
        await rig.client() as client,
    ):
        yield client


async def test_a_server_waits_for_a_client_that_takes_nothing(
    filling: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_S", PATIENCE_S)
    exchange = filling._exchange
    async with filling.server_stream(
        STREAMING, "Fill", Asked(ResourcePath=str(PIECE)), Answer
    ) as stream:
        async with asyncio.timeout(PATIENCE_S):
            while exchange._crowded is None:
                await asyncio.sleep(0)
        assert exchange._backlog <= BOUND + 4 * PIECE
        for _ in range(100):
            assert len((await anext(stream)).Resource) == PIECE
    assert exchange._backlog == 0
    assert await call(filling, "Echo", "unary") == b"unary"


async def test_a_stream_that_a_client_never_takes_from_is_given_up(
    filling: Client, service: StreamingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_S", 0.05)
    async with (
        filling.duplex(STREAMING, "Echo", Answer) as quick,
        filling.server_stream(STREAMING, "Fill", Asked(ResourcePath=str(PIECE)), Answer) as slow,
    ):
        await next_of(service.entered)
        assert await call(filling, "Echo", "unary") == b"unary"
        await quick.send(Asked(ResourcePath="quick"))
        assert (await anext(quick)).Resource == b"quick"
        async with asyncio.timeout(PATIENCE_S):
            while slow._stream.inbox.failure is None:
                await asyncio.sleep(0)
        with pytest.raises(StreamBacklogError) as caught:
            await anext(slow)
        assert caught.value.held > BOUND
        assert await call(filling, "Echo", "unary") == b"unary"


async def test_both_sides_sending_without_taking_come_to_an_end(
    filling: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An echo that is sent to and never read: each side waits for the other, but not for ever."""
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_S", 0.05)
    async with (
        filling.duplex(STREAMING, "Echo", Answer),
        filling.duplex(STREAMING, "Echo", Answer) as stream,
    ):
        with pytest.raises(StreamBacklogError):
            await send_for_ever(stream)
    assert await call(filling, "Echo", "unary") == b"unary"


async def test_alone_on_its_connection_it_is_the_server_that_does_not_wait_for_ever(
    tmp_path: Path, service: StreamingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_BYTES", BOUND)
    limits = Limits(stalled_write_s=0.05)
    async with Rig.running(tmp_path, limits, [service.table()]) as rig:
        client = await rig.client()
        async with client.duplex(STREAMING, "Echo", Answer) as stream:
            sending = asyncio.create_task(send_for_ever(stream))  # awaited below
            async with asyncio.timeout(PATIENCE_S):
                while rig.server.connections:
                    await asyncio.sleep(0)
            # A client that does not read learns of it when it reads or writes again.
            await client.aclose()
            with pytest.raises(ConnectionLostError):
                await sending


async def test_a_program_may_take_its_time_with_its_only_stream(
    filling: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_S", 0.01)
    exchange = filling._exchange
    async with filling.server_stream(
        STREAMING, "Fill", Asked(ResourcePath=str(PIECE)), Answer
    ) as stream:
        async with asyncio.timeout(PATIENCE_S):
            while exchange._crowded is None:
                await asyncio.sleep(0)
        first = exchange._crowded
        async with asyncio.timeout(PATIENCE_S):
            while exchange._crowded is first:  # until the time was up once
                await asyncio.sleep(0)
        for _ in range(100):
            assert len((await anext(stream)).Resource) == PIECE


async def test_a_series_that_is_given_up_does_not_look_whole(
    filling: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_S", 0.01)
    monkeypatch.setattr(ttrpc.exchange, "BACKLOG_BYTES", 1000)
    request = Asked(ResourcePath="100")
    async with (
        filling.server_stream(STREAMING, "Count", request, Answer) as one,
        filling.server_stream(STREAMING, "Count", request, Answer) as two,
        filling.server_stream(STREAMING, "Count", request, Answer) as three,
    ):
        streams = (one, two, three)
        async with asyncio.timeout(PATIENCE_S):
            while all(stream._stream.inbox.failure is None for stream in streams):
                await asyncio.sleep(0)
        for stream in streams:
            try:
                assert len([message async for message in stream]) == 100
            except StreamBacklogError:
                assert stream._stream.inbox.held == 0
    assert await call(filling, "Echo", "unary") == b"unary"
