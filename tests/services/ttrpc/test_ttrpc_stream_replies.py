"""What our client makes of the bytes of a server, Go's and Rust's forms and others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lifecycle import UnixAddress, listen_unix
from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import HEADER, PATIENCE_S
from ttrpc import (
    MAX_DATA_BYTES,
    Client,
    ConnectionLostError,
    DeadlineError,
    MessageDecodeError,
    MessageTooLargeError,
    StatusError,
    StreamClosedError,
    UnexpectedFrameError,
)
from ttrpc.envelope_pb2 import KeyValue, Request, Response, Status

REQUEST, RESPONSE, DATA = 1, 2, 3


class ScriptedServer:
    """One connection; reads frames and sends bytes as the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def frame(self) -> tuple[int, int, int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            header = await self._reader.readexactly(HEADER.size)
            length, stream_id, frame_type, flags = HEADER.unpack(header)
            return stream_id, frame_type, flags, await self._reader.readexactly(length)

    def send(self, stream_id: int, frame_type: int, flags: int, data: bytes = b"") -> None:
        self.writer.write(HEADER.pack(len(data), stream_id, frame_type, flags) + data)


@asynccontextmanager
async def scripted(folder: Path) -> AsyncIterator[tuple[Client, ScriptedServer]]:
    arrived: asyncio.Queue[ScriptedServer] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait(ScriptedServer(reader, writer))

    with await listen_unix(UnixAddress(str(folder / "scripted.sock"))) as listening:
        server = await asyncio.start_unix_server(accept, sock=listening.sock.dup())
        async with server, await Client.connect(listening.address.path) as client:
            peer = await arrived.get()
            try:
                yield client, peer
            finally:
                peer.writer.close()


def answer(text: str) -> bytes:
    return Answer(Resource=text.encode()).SerializeToString()


def response(payload: bytes = b"", code: int = 0, text: str = "") -> bytes:
    status = Status(code=code, message=text) if code else None
    return Response(status=status, payload=payload).SerializeToString()


async def test_the_opening_of_a_server_stream(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path) as (client, server),
        client.server_stream(
            "a.B", "C", Asked(ResourcePath="x"), Answer, timeout_s=60, metadata={"K": ["v"]}
        ),
    ):
        stream_id, frame_type, flags, data = await server.frame()
    assert (stream_id, frame_type, flags) == (1, REQUEST, 1)
    assert Request.FromString(data) == Request(
        service="a.B",
        method="C",
        payload=Asked(ResourcePath="x").SerializeToString(),
        timeout_nano=60_000_000_000,
        metadata=[KeyValue(key="k", value="v")],
    )


async def test_the_frames_of_a_client_stream(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path) as (client, server),
        client.client_stream("a.B", "C", Answer) as stream,
        asyncio.TaskGroup() as group,
    ):
        await stream.send(Asked(ResourcePath="x"))
        reply = group.create_task(stream.reply())
        opening = Request(service="a.B", method="C").SerializeToString()
        assert await server.frame() == (1, REQUEST, 6, opening)
        assert await server.frame() == (1, DATA, 0, Asked(ResourcePath="x").SerializeToString())
        assert await server.frame() == (1, DATA, 5, b"")
        server.send(1, RESPONSE, 0, response(answer("done")))
        assert (await reply).Resource == b"done"


@pytest.mark.parametrize(
    ("frames", "messages", "outcome"),
    [
        pytest.param([(DATA, 0, answer("a")), (DATA, 5, b"")], ["a"], None, id="rust-and-go"),
        pytest.param([(DATA, 5, b"")], [], None, id="nothing"),
        pytest.param([(DATA, 1, answer("z"))], ["z"], None, id="go-last-message-with-the-end"),
        pytest.param([(DATA, 1, b"")], [""], None, id="go-empty-last-message"),
        pytest.param([(DATA, 4, b""), (DATA, 5, b"")], [], None, id="frame-without-message"),
        pytest.param([(DATA, 0, b""), (DATA, 5, b"")], [""], None, id="empty-message"),
        pytest.param([(RESPONSE, 0, response(answer("r")))], ["r"], None, id="response"),
        pytest.param(
            [(DATA, 0, answer("a")), (RESPONSE, 0, response(code=7, text="no"))], ["a"],
            StatusError, id="failure-after-a-message",
        ),
        pytest.param(
            [(RESPONSE, 0, response(code=4, text="timeout"))], [], DeadlineError,
            id="deadline-at-the-server",
        ),
        pytest.param([(RESPONSE, 0, b"\xff")], [], MessageDecodeError, id="no-envelope"),
        pytest.param([(DATA, 0, b"\xff")], [], MessageDecodeError, id="no-message"),
        pytest.param([(REQUEST, 0, b"")], [], UnexpectedFrameError, id="request"),
        pytest.param(
            [(DATA, 0, bytes(MAX_DATA_BYTES + 1))], [], MessageTooLargeError, id="oversized"
        ),
        pytest.param([], [], ConnectionLostError, id="vanished"),
        pytest.param([(DATA, 0, answer("a"))], ["a"], ConnectionLostError, id="vanished-later"),
    ],
)  # fmt: skip
async def test_what_a_server_stream_can_bring(
    tmp_path: Path,
    frames: list[tuple[int, int, bytes]],
    messages: list[str],
    outcome: type[Exception] | None,
) -> None:
    got = []
    raised: type[Exception] | None = None
    async with (
        scripted(tmp_path) as (client, server),
        client.server_stream("a.B", "C", Asked(), Answer, timeout_s=PATIENCE_S) as stream,
    ):
        await server.frame()
        for frame in frames:
            server.send(1, *frame)
        server.send(1, DATA, 0, answer("after the end"))
        server.writer.close()
        try:
            while True:
                got.append((await anext(stream)).Resource.decode())
        except StopAsyncIteration:
            pass
        except Exception as error:
            raised = type(error)
    if outcome is ConnectionLostError:
        messages = [*messages, "after the end"]
    assert (got, raised) == (messages, outcome)


@pytest.mark.parametrize(
    ("frame", "outcome"),
    [
        pytest.param((RESPONSE, 0, response(code=9, text="no")), StatusError, id="status"),
        pytest.param((DATA, 0, answer("a")), UnexpectedFrameError, id="data"),
        pytest.param((DATA, 5, b""), UnexpectedFrameError, id="end-without-reply"),
        pytest.param((RESPONSE, 0, response(b"\xff")), MessageDecodeError, id="no-message"),
    ],
)
async def test_what_a_client_stream_can_bring(
    tmp_path: Path, frame: tuple[int, int, bytes], outcome: type[Exception]
) -> None:
    async with (
        scripted(tmp_path) as (client, server),
        client.client_stream("a.B", "C", Answer, timeout_s=PATIENCE_S) as stream,
    ):
        await server.frame()
        server.send(1, *frame)
        with pytest.raises(outcome):
            await stream.reply()
        with pytest.raises((outcome, StreamClosedError)):
            await stream.send(Asked())


async def test_frames_of_many_streams_interleaved(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path) as (client, server),
        client.server_stream("a.B", "C", Asked(), Answer) as one,
        client.duplex("a.B", "D", Answer) as three,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(2):
            await server.frame()
        unary = group.create_task(client.call("a.B", "E", Asked(), Answer))
        assert (await server.frame())[0] == 5
        server.send(3, DATA, 0, answer("3a"))
        server.send(7, DATA, 0, answer("nobody"))
        server.send(1, DATA, 0, answer("1a"))
        server.send(5, DATA, 0, answer("no answer of a unary call"))
        server.send(3, DATA, 5)
        server.send(5, RESPONSE, 0, response(answer("5")))
        server.send(1, DATA, 5)
        assert [message.Resource for message in [each async for each in one]] == [b"1a"]
        assert [message.Resource for message in [each async for each in three]] == [b"3a"]
        assert (await unary).Resource == b"5"


async def test_what_is_sent_when_a_stream_is_left(tmp_path: Path) -> None:
    async def leave(client: Client, error: Exception | None) -> None:
        async with client.duplex("a.B", "C", Answer):
            if error is not None:
                raise error

    async with scripted(tmp_path) as (client, server):
        await leave(client, None)
        assert (await server.frame())[:3] == (1, REQUEST, 6)
        assert await server.frame() == (1, DATA, 5, b"")
        with pytest.raises(ZeroDivisionError):
            await leave(client, ZeroDivisionError())
        assert (await server.frame())[:3] == (3, REQUEST, 6)
        await leave(client, None)
        assert (await server.frame())[:3] == (5, REQUEST, 6)
