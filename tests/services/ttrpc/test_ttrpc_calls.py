"""Calls that go well, calls that end early, and what each side then knows."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from lifecycle import UnixAddress, listen_unix
from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import HEADER, PATIENCE_S, SERVICE, Rig, call, next_of
from ttrpc import (
    MAX_DATA_BYTES,
    Client,
    Code,
    ConnectionLostError,
    DeadlineError,
    MessageDecodeError,
    MessageTooLargeError,
    PeerCredentials,
    StatusError,
)
from ttrpc.envelope_pb2 import Request, Response

SOON_S = 0.05  # a deadline that is meant to pass


async def test_calls_overlap_and_may_finish_in_any_order(rig: Rig) -> None:
    async with await rig.client() as client, asyncio.TaskGroup() as group:
        held = group.create_task(call(client, "Hold", "first"))
        await next_of(rig.service.entered)
        assert await call(client, "Echo", "second") == b"second"
        assert not held.done()
        rig.service.release.set()
        assert await held == b"first"


async def test_a_thousand_calls_in_flight_on_one_connection(rig: Rig) -> None:
    names = [str(number) for number in range(1000)]
    async with await rig.client() as client, asyncio.TaskGroup() as group:
        calls = [group.create_task(call(client, "Hold", name)) for name in names]
        assert await next_of(rig.service.entered, 1000) == names
        rig.service.release.set()
        assert [await held for held in calls] == [name.encode() for name in names]


@pytest.mark.parametrize("size", [0, 1, 65_536, MAX_DATA_BYTES - 12])
async def test_replies_up_to_4_mib(rig: Rig, size: int) -> None:
    # The status, two field headers and lengths take up to 12 bytes of the 4 MiB.
    async with await rig.client() as client:
        assert len(await call(client, "Size", str(size))) == size


async def test_requests_up_to_4_mib(rig: Rig) -> None:
    text = "x" * (MAX_DATA_BYTES - 64)
    async with await rig.client() as client:
        assert await call(client, "Echo", text) == text.encode()


async def test_a_reply_beyond_4_mib_is_replaced(rig: Rig) -> None:
    async with await rig.client() as client:
        with pytest.raises(StatusError) as caught:
            await call(client, "Size", str(MAX_DATA_BYTES))
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert caught.value.message == (
            "message length 4194316 exceed maximum message size of 4194304"
        )
        assert await call(client, "Echo", "still there") == b"still there"


async def test_a_request_beyond_4_mib_is_not_sent(rig: Rig) -> None:
    async with await rig.client() as client:
        with pytest.raises(MessageTooLargeError) as caught:
            await call(client, "Echo", "x" * MAX_DATA_BYTES)
        assert caught.value.limit == MAX_DATA_BYTES
        assert await call(client, "Echo", "still there") == b"still there"


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_a_status_of_the_handler_reaches_the_caller(rig: Rig, code: Code) -> None:
    async with await rig.client() as client:
        with pytest.raises(StatusError) as caught:
            await call(client, "Refuse", code.name, timeout_s=None)
        assert (caught.value.code, caught.value.message) == (code, "refused as asked")


async def test_metadata_peer_and_deadline_reach_the_handler(rig: Rig) -> None:
    async with await rig.client() as client:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await client.call(
            SERVICE, "Echo", Asked(), Answer, timeout_s=PATIENCE_S, metadata={"Key": ["a", "b"]}
        )
        (context,) = rig.service.contexts
        assert context.metadata == {"key": ("a", "b")}
        assert context.peer == PeerCredentials(os.getpid(), os.getuid(), os.getgid())
        assert context.deadline is not None
        assert before + PATIENCE_S <= context.deadline <= loop.time() + PATIENCE_S


async def test_no_deadline_and_no_metadata_are_none_and_empty(rig: Rig) -> None:
    async with await rig.client() as client:
        await call(client, "Echo", timeout_s=None)
        (context,) = rig.service.contexts
        assert (context.deadline, dict(context.metadata)) == (None, {})


async def test_at_its_deadline_the_handler_is_cancelled_and_the_caller_told(rig: Rig) -> None:
    async with await rig.client() as client:
        with pytest.raises(DeadlineError) as caught:
            await call(client, "Hold", "late", timeout_s=SOON_S)
        assert (caught.value.path, caught.value.timeout_s) == ("/test.Held/Hold", SOON_S)
        assert await next_of(rig.service.cancelled) == ["late"]
        assert await call(client, "Echo", "still there") == b"still there"


async def test_the_server_keeps_the_deadline_by_itself(rig: Rig) -> None:
    async with rig.peer() as peer:
        late = Request(service=SERVICE, method="Hold", timeout_nano=int(SOON_S * 1e9))
        peer.send(1, 1, 0, late.SerializeToString())
        reply = await peer.reply()
        assert (reply.stream_id, reply.code, reply.text) == (1, 4, "timeout")


async def test_a_negative_timeout_is_no_limit(rig: Rig) -> None:
    async with rig.peer() as peer:
        request = Request(service=SERVICE, method="Hold", timeout_nano=-1)
        peer.send(1, 1, 0, request.SerializeToString())
        await next_of(rig.service.entered)
        rig.service.release.set()
        assert (await peer.reply()).code == 0


async def test_a_cancelled_call_leaves_the_connection_usable(rig: Rig) -> None:
    async with await rig.client() as client:
        held = asyncio.create_task(call(client, "Hold", "given up"))  # awaited below
        await next_of(rig.service.entered)
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        rig.service.release.set()  # its reply comes now, and is dropped
        assert await call(client, "Echo", "still there") == b"still there"


async def test_handlers_are_cancelled_when_the_client_hangs_up(rig: Rig) -> None:
    async with rig.peer() as peer, await rig.client() as other:
        peer.request(1, "Hold", "a")
        peer.request(3, "Hold", "b")
        await next_of(rig.service.entered, 2)
        kept = asyncio.create_task(call(other, "Hold", "kept"))  # awaited below
        await next_of(rig.service.entered)
        peer.writer.transport.abort()
        assert set(await next_of(rig.service.cancelled, 2)) == {"a", "b"}
        rig.service.release.set()
        assert await kept == b"kept"


async def test_closing_the_sending_half_is_hanging_up(rig: Rig) -> None:
    async with rig.peer() as peer:
        peer.request(1, "Hold", "a")
        await next_of(rig.service.entered)
        peer.writer.write_eof()
        assert await next_of(rig.service.cancelled) == ["a"]
        reply = await peer.reply()
        assert (reply.stream_id, reply.code) == (1, 1)
        assert await peer.end_of_stream() == b""


async def test_a_vanished_server_fails_every_call(rig: Rig) -> None:
    async with await rig.client() as client:
        calls = [asyncio.create_task(call(client, "Hold", str(n))) for n in range(3)]
        await next_of(rig.service.entered, 3)
        rig.serving.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        # Cancelled handlers still answer if the reply gets out before the connection goes.
        assert {type(outcome) for outcome in outcomes} <= {ConnectionLostError, StatusError}
        await asyncio.wait([rig.serving])
        with pytest.raises(ConnectionLostError) as caught:
            await call(client, "Echo")
        assert caught.value.address == rig.path
        assert not client.is_connected


async def test_nobody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody.sock")
    with pytest.raises(ConnectionLostError, match="No such file") as caught:
        await Client.connect(path)
    assert (caught.value.address, caught.value.reason) == (path, "No such file or directory")


async def test_a_closed_client_says_so(rig: Rig) -> None:
    client = await rig.client()
    held = asyncio.create_task(call(client, "Hold", "a"))  # awaited below
    await next_of(rig.service.entered)
    await client.aclose()
    for outcome in (held, call(client, "Echo")):
        with pytest.raises(ConnectionLostError, match="closed by this side"):
            await outcome
    await client.aclose()
    assert await next_of(rig.service.cancelled) == ["a"]


async def _scripted(path: Path, reply: bytes) -> tuple[bytes, BaseException | None]:
    """Call a server that sends ``reply`` whatever is asked, then closes."""
    outcome: BaseException | None = None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(HEADER.size)
        await reader.readexactly(HEADER.unpack(header)[0])
        writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with await listen_unix(UnixAddress(str(path / "scripted.sock"))) as listening:
        server = await asyncio.start_unix_server(answer, sock=listening.sock.dup())
        async with server, await Client.connect(listening.address.path) as client:
            try:
                return await call(client, "Echo"), None
            except Exception as error:
                outcome = error
    return b"", outcome


def _frame(stream_id: int, frame_type: int, data: bytes) -> bytes:
    return HEADER.pack(len(data), stream_id, frame_type, 0) + data


GOOD = _frame(
    1, 2, Response(payload=Answer(Resource=b"good").SerializeToString()).SerializeToString()
)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(GOOD, b"good", id="good"),
        pytest.param(_frame(3, 2, b"\xff") + GOOD, b"good", id="reply-nobody-waits-for"),
        pytest.param(_frame(1, 3, b"\xff") + GOOD, b"good", id="data-frame"),
        pytest.param(_frame(1, 1, b"\xff") + GOOD, b"good", id="request-frame"),
        pytest.param(GOOD + GOOD, b"good", id="twice"),
        pytest.param(_frame(1, 2, b"\xff"), MessageDecodeError, id="not-an-envelope"),
        pytest.param(_frame(1, 2, b"\x12\x01\xff"), MessageDecodeError, id="not-the-message"),
        pytest.param(_frame(1, 2, bytes(MAX_DATA_BYTES + 1)), MessageTooLargeError, id="too-long"),
        pytest.param(b"", ConnectionLostError, id="nothing"),
        pytest.param(GOOD[:-1], ConnectionLostError, id="cut-off"),
    ],
)
async def test_what_a_client_makes_of_a_reply(
    tmp_path: Path, reply: bytes, expected: bytes | type[Exception]
) -> None:
    resource, error = await _scripted(tmp_path, reply)
    assert (resource or type(error)) == expected


async def test_ids_are_odd_and_start_over_past_those_in_use(rig: Rig) -> None:
    async with await rig.client() as client, asyncio.TaskGroup() as group:
        held = group.create_task(call(client, "Hold", "id 1"))
        await next_of(rig.service.entered)
        client._exchange._next_id = 0xFFFF_FFFF
        assert await call(client, "Echo", "last") == b"last"
        assert await call(client, "Echo", "first again") == b"first again"
        assert client._exchange._next_id == 5
        rig.service.release.set()
        assert await held == b"id 1"
