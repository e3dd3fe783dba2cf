"""Our client and our server, streaming to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import PATIENCE_S, Rig, call, next_of
from tests.services.ttrpc.streaming import STREAMING, StreamingService
from ttrpc import (
    MAX_DATA_BYTES,
    Client,
    Code,
    ConnectionLostError,
    DeadlineError,
    MessageTooLargeError,
    StatusError,
    StreamClosedError,
)


@pytest.fixture
def service() -> StreamingService:
    return StreamingService()


@pytest.fixture
async def streaming(tmp_path: Path, service: StreamingService) -> AsyncIterator[Rig]:
    async with Rig.running(tmp_path, tables=[service.table()]) as rig:
        yield rig


@pytest.fixture
async def client(streaming: Rig) -> AsyncIterator[Client]:
    async with await streaming.client() as connected:
        yield connected


async def test_client_streaming(client: Client, service: StreamingService) -> None:
    async with client.client_stream(
        STREAMING, "Join", Answer, timeout_s=PATIENCE_S, metadata={"Who": ["a", "b"]}
    ) as stream:
        for word in ("to", "be", "", "joined"):
            await stream.send(Asked(ResourcePath=word))
        assert (await stream.reply()).Resource == b"to be  joined"
    (context,) = service.contexts
    assert context.metadata == {"who": ("a", "b")}
    assert context.deadline is not None


async def test_a_client_that_streams_nothing(client: Client) -> None:
    async with client.client_stream(STREAMING, "Join", Answer) as stream:
        assert (await stream.reply()).Resource == b""


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
async def test_server_streaming(client: Client, count: int) -> None:
    async with client.server_stream(
        STREAMING, "Count", Asked(ResourcePath=str(count)), Answer
    ) as numbers:
        got = [number.Resource async for number in numbers]
    assert got == [str(number).encode() for number in range(count)]


async def test_duplex_one_by_one(client: Client) -> None:
    async with client.duplex(STREAMING, "Echo", Answer) as stream:
        for word in ("a", "", "c" * 100_000):
            await stream.send(Asked(ResourcePath=word))
            assert (await anext(stream)).Resource == word.encode()
        await stream.close_sending()
        await stream.close_sending()
        assert [message async for message in stream] == []


async def test_many_streams_and_calls_at_once(client: Client) -> None:
    async def echo(name: str) -> None:
        async with client.duplex(STREAMING, "Echo", Answer) as stream:
            for number in range(20):
                await stream.send(Asked(ResourcePath=f"{name} {number}"))
            await stream.close_sending()
            got = [message.Resource.decode() async for message in stream]
        assert got == [f"{name} {number}" for number in range(20)]

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(echo(str(number)))
        for number in range(100):
            assert await call(client, "Echo", str(number)) == str(number).encode()


async def test_a_status_comes_after_the_messages_before_it(client: Client) -> None:
    async with client.server_stream(
        STREAMING, "BreakOff", Asked(ResourcePath="DATA_LOSS"), Answer
    ) as stream:
        assert (await anext(stream)).Resource == b"before"
        for _ in range(2):  # asking again gives the same
            with pytest.raises(StatusError) as caught:
                await anext(stream)
            assert (caught.value.code, caught.value.message) == (
                Code.DATA_LOSS,
                "broken off as asked",
            )


async def test_an_early_reply_ends_the_stream(client: Client) -> None:
    async with client.client_stream(STREAMING, "First", Answer) as stream:
        await stream.send(Asked(ResourcePath="one"))
        reply = await stream.reply()
        assert reply.Resource == b"one"
        with pytest.raises(StreamClosedError, match="by the server"):
            await stream.send(Asked(ResourcePath="two"))
    assert await call(client, "Echo", "still") == b"still"


async def test_sending_after_closing_is_a_mistake(client: Client) -> None:
    async with client.duplex(STREAMING, "Hold", Answer) as stream:
        await stream.close_sending()
        with pytest.raises(StreamClosedError, match="by this side"):
            await stream.send(Asked())


async def test_a_message_too_long_is_not_sent_and_harms_nothing(client: Client) -> None:
    async with client.duplex(STREAMING, "Echo", Answer) as stream:
        with pytest.raises(MessageTooLargeError):
            await stream.send(Asked(ResourcePath="x" * MAX_DATA_BYTES))
        longest = "x" * (MAX_DATA_BYTES - 5)
        await stream.send(Asked(ResourcePath=longest))
        assert len((await anext(stream)).Resource) == len(longest)


async def test_a_handler_that_sends_too_much_is_told(
    client: Client, service: StreamingService
) -> None:
    request = Asked(ResourcePath=str(MAX_DATA_BYTES))
    async with client.server_stream(STREAMING, "Fill", request, Answer) as stream:
        with pytest.raises(StatusError, match="exceed maximum message size") as caught:
            await anext(stream)
        assert caught.value.code is Code.INVALID_ARGUMENT


async def test_the_deadline_is_for_the_whole_stream(
    client: Client, service: StreamingService
) -> None:
    with pytest.raises(DeadlineError, match="Streaming/Hold"):
        async with client.duplex(STREAMING, "Hold", Answer, timeout_s=0.05) as stream:
            await anext(stream)
    assert await next_of(service.left) == ["cancelled"]
    assert await call(client, "Echo", "still") == b"still"


async def test_leaving_in_good_order_closes_the_sending_side(
    client: Client, service: StreamingService
) -> None:
    async with client.duplex(STREAMING, "Hold", Answer) as stream:
        await stream.send(Asked(ResourcePath="a"))
    service.release.set()
    assert await next_of(service.taken) == ["a"]
    assert await next_of(service.left) == ["ended"]


async def test_leaving_by_an_error_does_not_make_the_series_look_whole(
    streaming: Rig, service: StreamingService
) -> None:
    client = await streaming.client()
    service.release.set()

    async def break_off() -> None:
        async with client.duplex(STREAMING, "Hold", Answer) as stream:
            await stream.send(Asked(ResourcePath="a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await call(client, "Echo", "still") == b"still"
    assert await next_of(service.taken) == ["a"]
    assert service.left.empty()
    await client.aclose()
    assert await next_of(service.left) == ["cancelled"]


async def test_messages_for_a_stream_that_was_left_are_dropped(
    client: Client, service: StreamingService
) -> None:
    request = Asked(ResourcePath="100000")
    async with client.server_stream(STREAMING, "Fill", request, Answer) as stream:
        await anext(stream)
    for number in range(100):
        assert await call(client, "Echo", str(number)) == str(number).encode()
    assert client._exchange._backlog == 0
    await client.aclose()
    assert await next_of(service.left) == ["100000"]


async def test_a_lost_connection_ends_every_stream(
    streaming: Rig, client: Client, service: StreamingService
) -> None:
    async with (
        client.duplex(STREAMING, "Hold", Answer) as duplex,
        client.client_stream(STREAMING, "Join", Answer) as joining,
    ):
        await next_of(service.entered)
        client._exchange._transport.abort()  # type: ignore[union-attr]
        with pytest.raises(ConnectionLostError):
            await anext(duplex)
        with pytest.raises(ConnectionLostError):
            await joining.reply()
        with pytest.raises(ConnectionLostError):
            await duplex.send(Asked())
    with pytest.raises(ConnectionLostError):
        async with client.duplex(STREAMING, "Echo", Answer):
            pass
    assert await next_of(service.left) == ["cancelled"]


async def test_a_reply_that_is_not_the_message(client: Client) -> None:
    async with client.server_stream(STREAMING, "Count", Asked(ResourcePath="1"), Asked) as stream:
        assert (await anext(stream)).ResourcePath == "0"  # the same field of the same type
    async with client.duplex(STREAMING, "Nope", Answer) as stream:
        with pytest.raises(StatusError) as caught:
            await anext(stream)
        assert (caught.value.code, caught.value.message) == (Code.UNIMPLEMENTED, "Nope method")


async def test_two_readers_of_one_stream_are_a_mistake(client: Client) -> None:
    async with client.duplex(STREAMING, "Hold", Answer, timeout_s=PATIENCE_S) as stream:
        first = asyncio.create_task(anext(stream))  # awaited below
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one reader"):
            await anext(stream)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
