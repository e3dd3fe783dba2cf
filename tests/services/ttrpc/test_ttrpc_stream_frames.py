"""Streams at the server, byte by byte: what Go's and Rust's clients send, and what breaks rules.

Sources of the forms: containerd/ttrpc client.go and stream.go, ttrpc-rust 0.9 src/asynchronous/
client.rs and stream.rs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import PATIENCE_S, RawPeer, Rig, call, next_of
from tests.services.ttrpc.streaming import STREAMING, StreamingService
from ttrpc import MAX_DATA_BYTES, Limits
from ttrpc.envelope_pb2 import Request, Response

REQUEST, RESPONSE, DATA = 1, 2, 3
GO_OPEN, RUST_OPEN, ONE_MESSAGE = 2, 6, 1
END = 5
CLOSED = "Stream id 1: data close message connot include data"  # codespell:ignore - the source's
SENT_ON = "Stream id 1: handling data error: the sender had closed it"
INACTIVE = "Stream is no longer active"


@pytest.fixture
def service() -> StreamingService:
    return StreamingService()


@pytest.fixture
async def rig(tmp_path: Path, service: StreamingService) -> AsyncIterator[Rig]:
    async with Rig.running(tmp_path, tables=[service.table()]) as running:
        yield running


@pytest.fixture
async def peer(rig: Rig) -> AsyncIterator[RawPeer]:
    async with rig.peer() as connected:
        yield connected


def asked(path: str) -> bytes:
    return Asked(ResourcePath=path).SerializeToString()


def answer(text: str) -> bytes:
    return Answer(Resource=text.encode()).SerializeToString()


def opening(method: str, payload: bytes = b"", timeout_nano: int = 0) -> bytes:
    request = Request(service=STREAMING, method=method, payload=payload, timeout_nano=timeout_nano)
    return request.SerializeToString()


def open_stream(peer: RawPeer, method: str, flags: int = RUST_OPEN, stream_id: int = 1) -> None:
    peer.send(stream_id, REQUEST, flags, opening(method))


async def status(peer: RawPeer) -> tuple[int, int, str]:
    reply = await peer.reply()
    return reply.stream_id, reply.code, reply.text


@pytest.mark.parametrize("flags", [GO_OPEN, RUST_OPEN])
async def test_client_streaming(peer: RawPeer, flags: int) -> None:
    open_stream(peer, "Join", flags)
    for word in ("a", "", "b"):
        peer.send(1, DATA, 0, asked(word))
    peer.send(1, DATA, END, b"")
    expected = b"\x0a\x00" + Response(payload=answer("a  b")).SerializeToString()
    assert await peer.frame() == (1, RESPONSE, 0, expected)


async def test_a_message_beside_the_opening_is_the_first(peer: RawPeer) -> None:
    """Go's NewStream takes one."""
    peer.send(1, REQUEST, GO_OPEN, opening("Join", asked("a")))
    peer.send(1, DATA, 0, asked("b"))
    peer.send(1, DATA, END, b"")
    assert (await peer.reply()).payload == answer("a b")


async def test_a_message_that_is_declared_absent_is_none(peer: RawPeer) -> None:
    peer.send(1, REQUEST, RUST_OPEN, opening("Join", asked("a")))
    peer.send(1, DATA, 0, asked("b"))
    peer.send(1, DATA, 4, asked("c"))
    peer.send(1, DATA, END, b"")
    assert (await peer.reply()).payload == answer("b")


@pytest.mark.parametrize("flags", [ONE_MESSAGE, 0])
async def test_server_streaming(peer: RawPeer, flags: int) -> None:
    peer.send(1, REQUEST, flags, opening("Count", asked("2")))
    assert [await peer.frame() for _ in range(3)] == [
        (1, DATA, 0, answer("0")),
        (1, DATA, 0, answer("1")),
        (1, DATA, END, b""),
    ]


async def test_server_streaming_of_an_empty_request(peer: RawPeer) -> None:
    peer.send(1, REQUEST, ONE_MESSAGE, opening("Count"))
    assert await peer.frame() == (1, DATA, END, b"")


async def test_server_streaming_opened_as_if_more_would_come(peer: RawPeer) -> None:
    open_stream(peer, "Count")
    peer.send(1, DATA, 0, asked("1"))
    assert await peer.frame() == (1, DATA, 0, answer("0"))
    assert await peer.frame() == (1, DATA, END, b"")


async def test_server_streaming_without_its_request(peer: RawPeer) -> None:
    open_stream(peer, "Count")
    peer.send(1, DATA, END, b"")
    assert await status(peer) == (1, 3, "the stream ended before its request")


@pytest.mark.parametrize("flags", [GO_OPEN, RUST_OPEN])
async def test_duplex(peer: RawPeer, flags: int) -> None:
    open_stream(peer, "Echo", flags)
    for word in ("a", "b"):
        peer.send(1, DATA, 0, asked(word))
        assert await peer.frame() == (1, DATA, 0, answer(word))
    peer.send(1, DATA, END, b"")
    assert await peer.frame() == (1, DATA, END, b"")
    peer.send(1, DATA, 0, asked("c"))
    assert await status(peer) == (1, 3, INACTIVE)


async def test_closing_without_the_flag_for_no_data_is_an_empty_message(peer: RawPeer) -> None:
    open_stream(peer, "Echo")
    peer.send(1, DATA, 1, b"")
    assert await peer.frame() == (1, DATA, 0, b"")
    assert await peer.frame() == (1, DATA, END, b"")


async def test_closing_again_means_nothing(peer: RawPeer, service: StreamingService) -> None:
    open_stream(peer, "Hold")
    for _ in range(3):
        peer.send(1, DATA, END, b"")
    service.release.set()
    assert await peer.frame() == (1, DATA, END, b"")


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [
        pytest.param("PERMISSION_DENIED", 7, "broken off as asked", id="status"),
        pytest.param("crash", 2, "/test.Streaming/BreakOff failed unexpectedly", id="crash"),
    ],
)
async def test_a_failure_is_a_response(peer: RawPeer, code: str, number: int, text: str) -> None:
    peer.send(1, REQUEST, ONE_MESSAGE, opening("BreakOff", asked(code)))
    assert await peer.frame() == (1, DATA, 0, answer("before"))
    assert await status(peer) == (1, number, text)
    peer.send(1, DATA, 0, asked("x"))
    assert await status(peer) == (1, 3, INACTIVE)


@pytest.mark.parametrize("method", ["WrongType", "WrongReply"])
async def test_a_handler_of_the_wrong_type(peer: RawPeer, method: str) -> None:
    open_stream(peer, method)
    assert await status(peer) == (1, 2, f"/test.Streaming/{method} failed unexpectedly")


async def test_a_message_that_does_not_parse_ends_the_stream(peer: RawPeer) -> None:
    open_stream(peer, "Echo")
    peer.send(1, DATA, 0, b"\xff")
    text = "ttrpc err: 1 bytes received as api.GetResourceRequest are not such a message"
    assert await status(peer) == (1, 2, text)


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        pytest.param([(DATA, END, b"x")], CLOSED, id="end-with-body"),
        pytest.param([(DATA, 1, b"x")], CLOSED, id="close-with-body"),
        pytest.param([(DATA, END, b""), (DATA, 0, b"")], SENT_ON, id="data-after-the-end"),
        pytest.param(
            [(REQUEST, RUST_OPEN, opening("Hold"))], "StreamID is that of an open stream",
            id="opened-again",
        ),
        pytest.param(
            [(REQUEST, 0, opening("Nope"))], "StreamID is that of an open stream",
            id="unary-call-of-the-same-id",
        ),
        pytest.param(
            [(DATA, 0, bytes(MAX_DATA_BYTES + 1))],
            "message length 4194305 exceed maximum message size of 4194304",
            id="oversized",
        ),
    ],
)  # fmt: skip
async def test_what_breaks_a_rule_ends_the_stream_and_nothing_else(
    rig: Rig,
    peer: RawPeer,
    service: StreamingService,
    frames: list[tuple[int, int, bytes]],
    text: str,
) -> None:
    open_stream(peer, "Echo", stream_id=3)
    open_stream(peer, "Hold")
    await next_of(service.entered)
    for frame in frames:
        peer.send(1, *frame)
    assert await status(peer) == (1, 3, text)
    assert await next_of(service.left) == ["cancelled"]
    peer.send(1, DATA, 0, b"")
    assert await status(peer) == (1, 3, INACTIVE)
    peer.send(3, DATA, 0, asked("other"))
    assert await peer.frame() == (3, DATA, 0, answer("other"))
    assert await peer.is_alive()


@pytest.mark.parametrize("frame_type", [0, RESPONSE, 9])
async def test_other_frames_on_an_open_stream_are_ignored(peer: RawPeer, frame_type: int) -> None:
    open_stream(peer, "Echo")
    peer.send(1, frame_type, END, b"x")
    peer.send(1, DATA, 0, asked("a"))
    assert await peer.frame() == (1, DATA, 0, answer("a"))


async def test_an_ended_stream_sends_and_brings_no_more(
    peer: RawPeer, service: StreamingService
) -> None:
    open_stream(peer, "Stubborn")
    peer.send(1, DATA, 0, asked("a"))
    await next_of(service.taken)
    peer.send(1, DATA, 1, b"x")
    assert await status(peer) == (1, 3, CLOSED)
    assert await next_of(service.left, 2) == ["the stream has ended", CLOSED]
    assert await peer.is_alive()


async def test_ids_in_any_order_and_again_after_the_end(peer: RawPeer) -> None:
    for stream_id in (9, 3, 9, 0xFFFF_FFFF, 1):
        peer.send(stream_id, REQUEST, ONE_MESSAGE, opening("Count", asked("1")))
        assert await peer.frame() == (stream_id, DATA, 0, answer("0"))
        assert await peer.frame() == (stream_id, DATA, END, b"")


@pytest.mark.parametrize("timeout_nano", [1, 20_000_000])
async def test_the_deadline_of_a_stream(
    peer: RawPeer, service: StreamingService, timeout_nano: int
) -> None:
    peer.send(1, REQUEST, RUST_OPEN, opening("Echo", timeout_nano=timeout_nano))
    assert await status(peer) == (1, 4, "timeout")
    peer.send(1, DATA, 0, asked("late"))
    assert await status(peer) == (1, 3, INACTIVE)


@pytest.mark.parametrize("vanish", ["close", "half-close"])
async def test_a_peer_that_leaves_cancels_its_streams(
    rig: Rig, service: StreamingService, vanish: str
) -> None:
    async with rig.peer() as peer:
        open_stream(peer, "Hold")
        peer.send(3, REQUEST, ONE_MESSAGE, opening("Fill", asked("1000")))
        await next_of(service.entered, 2)
        if vanish == "close":
            peer.writer.transport.abort()
        else:
            peer.writer.write_eof()
        assert sorted(await next_of(service.left, 2)) == ["1000", "cancelled"]


async def test_too_many_streams_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    service = StreamingService()
    limits = Limits(streams_per_connection=2)
    async with Rig.running(tmp_path, limits, [service.table()]) as rig, rig.peer() as peer:
        for stream_id in (1, 3, 5):
            open_stream(peer, "Echo", stream_id=stream_id)
        assert await status(peer) == (5, 8, "too many open streams")
        for stream_id in (3, 1):
            peer.send(stream_id, DATA, 0, asked("a"))
            assert await peer.frame() == (stream_id, DATA, 0, answer("a"))
        peer.send(1, DATA, END, b"")
        assert await peer.frame() == (1, DATA, END, b"")
        open_stream(peer, "Echo", stream_id=5)
        peer.send(5, DATA, END, b"")
        assert await peer.frame() == (5, DATA, END, b"")


async def test_drain_lets_streams_finish(
    rig: Rig, peer: RawPeer, service: StreamingService
) -> None:
    open_stream(peer, "Echo")
    peer.send(1, DATA, 0, asked("a"))
    assert await peer.frame() == (1, DATA, 0, answer("a"))
    draining = asyncio.create_task(rig.server.drain(PATIENCE_S))  # awaited below
    await asyncio.sleep(0)
    open_stream(peer, "Echo", stream_id=3)
    assert await status(peer) == (3, 14, "the server is stopping")
    peer.send(1, DATA, 0, asked("b"))
    assert await peer.frame() == (1, DATA, 0, answer("b"))
    assert not draining.done()
    peer.send(1, DATA, END, b"")
    assert await peer.frame() == (1, DATA, END, b"")
    assert await peer.end_of_stream() == b""
    await draining


async def test_drain_ends_streams_that_do_not_finish(rig: Rig, peer: RawPeer) -> None:
    open_stream(peer, "Echo")
    peer.send(1, DATA, 0, asked("a"))
    assert await peer.frame() == (1, DATA, 0, answer("a"))
    await rig.server.drain(0.05)
    assert await status(peer) == (1, 1, "the call was cancelled")
    assert await peer.end_of_stream() == b""


async def test_a_peer_that_takes_nothing_makes_its_handler_wait(
    rig: Rig, peer: RawPeer, service: StreamingService
) -> None:
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    peer.send(1, REQUEST, ONE_MESSAGE, opening("Count", asked("100000")))
    async with await rig.client() as other:
        for number in range(50):
            assert await call(other, "Echo", str(number)) == str(number).encode()
    (connection,) = [each for each in rig.server._connections if each._streams]
    async with asyncio.timeout(PATIENCE_S):
        while connection._may_write.is_set():
            await asyncio.sleep(0)
    peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for number in range(100_000):
        assert (await peer.frame())[3] == answer(str(number))
    assert await peer.frame() == (1, DATA, END, b"")
