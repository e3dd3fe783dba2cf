"""A server on a real socket, a service whose calls can be held, a peer that writes raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from lifecycle import UnixAddress, listen_unix
from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from ttrpc import (
    CallContext,
    Client,
    Code,
    Limits,
    Method,
    Server,
    ServiceTable,
    StatusError,
    unsupported,
)
from ttrpc.envelope_pb2 import Request, Response

SERVICE = "test.Held"
HEADER = struct.Struct(">IIBB")
PATIENCE_S = 30.0  # a bound on hanging, never on speed


class HeldService:
    """Answers at once, or when told to, or not at all."""

    def __init__(self) -> None:
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.release = asyncio.Event()
        self.contexts: list[CallContext] = []

    async def echo(self, request: Asked, context: CallContext) -> Answer:
        self.contexts.append(context)
        return Answer(Resource=request.ResourcePath.encode())

    async def hold(self, request: Asked, context: CallContext) -> Answer:
        self.entered.put_nowait(request.ResourcePath)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.put_nowait(request.ResourcePath)
            raise
        return Answer(Resource=request.ResourcePath.encode())

    async def size(self, request: Asked, context: CallContext) -> Answer:
        return Answer(Resource=bytes(int(request.ResourcePath)))

    async def refuse(self, request: Asked, context: CallContext) -> Answer:
        raise StatusError(Code[request.ResourcePath], "refused as asked")

    async def crash(self, request: Asked, context: CallContext) -> Answer:
        raise KeyError("hunter2")

    async def lapse(self, request: Asked, context: CallContext) -> Answer:
        """Lets the cancellation of something it waits for through."""
        inner: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        inner.cancel()
        return await inner

    async def wrong_type(self, request: Asked, context: CallContext) -> Asked:
        return request

    def table(self) -> ServiceTable:
        methods: dict[str, Method[Any, Any]] = {
            "Echo": Method(Asked, Answer, self.echo),
            "Hold": Method(Asked, Answer, self.hold),
            "Size": Method(Asked, Answer, self.size),
            "Refuse": Method(Asked, Answer, self.refuse),
            "Crash": Method(Asked, Answer, self.crash),
            "Lapse": Method(Asked, Answer, self.lapse),
            "Absent": Method(Asked, Answer, unsupported(f"/{SERVICE}/Absent")),
            "WrongType": Method(Asked, Answer, self.wrong_type),
        }
        return ServiceTable(SERVICE, methods)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response frame as a raw peer sees it."""

    stream_id: int
    code: int
    text: str
    payload: bytes


class RawPeer:
    """Writes any bytes to the server and reads its frames, with a codec of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, path: str) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def send(self, stream_id: int, frame_type: int, flags: int, data: bytes) -> None:
        self.writer.write(HEADER.pack(len(data), stream_id, frame_type, flags) + data)

    def request(self, stream_id: int, method: str, path: str = "", *, flags: int = 0) -> None:
        payload = Asked(ResourcePath=path).SerializeToString()
        envelope = Request(service=SERVICE, method=method, payload=payload)
        self.send(stream_id, 1, flags, envelope.SerializeToString())

    async def frame(self) -> tuple[int, int, int, bytes]:
        """Return stream id, type, flags and data of the next frame."""
        async with asyncio.timeout(PATIENCE_S):
            header = await self._reader.readexactly(HEADER.size)
            length, stream_id, frame_type, flags = HEADER.unpack(header)
            return stream_id, frame_type, flags, await self._reader.readexactly(length)

    async def reply(self) -> Reply:
        stream_id, frame_type, flags, data = await self.frame()
        assert (frame_type, flags) == (2, 0)
        response = Response.FromString(data)
        status = response.status
        return Reply(stream_id, status.code, status.message, response.payload)

    async def exactly(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readexactly(count)

    async def is_alive(self) -> bool:
        """Whether the connection still answers."""
        self.request(0x7FFF_FFFF, "Echo", "alive")
        reply = await self.reply()
        return reply == Reply(0x7FFF_FFFF, 0, "", Answer(Resource=b"alive").SerializeToString())

    async def end_of_stream(self) -> bytes:
        """Return what comes before the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()


@dataclass(slots=True)
class Rig:
    """Everything a test of the server needs."""

    path: str
    server: Server
    service: HeldService
    serving: asyncio.Task[None]

    @classmethod
    @asynccontextmanager
    async def running(
        cls, folder: Path, limits: Limits | None = None, tables: Sequence[ServiceTable] = ()
    ) -> AsyncIterator[Self]:
        path = str(folder / "rig.sock")
        service = HeldService()
        server = Server([service.table(), *tables], limits)
        with await listen_unix(UnixAddress(path)) as listening:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(listening.sock))
                try:
                    yield cls(path, server, service, serving)
                finally:
                    await server.drain(0)

    async def client(self) -> Client:
        return await Client.connect(self.path, timeout_s=PATIENCE_S)

    def peer(self) -> AbstractAsyncContextManager[RawPeer]:
        return RawPeer.connected(self.path)


async def call(
    client: Client, method: str, path: str = "", *, timeout_s: float | None = PATIENCE_S
) -> bytes:
    """Call the test service and return the bytes of its answer."""
    answer = await client.call(
        SERVICE, method, Asked(ResourcePath=path), Answer, timeout_s=timeout_s
    )
    return answer.Resource


async def next_of(queue: asyncio.Queue[str], count: int = 1) -> list[str]:
    """Return the next entries, waiting for them within the bound."""
    async with asyncio.timeout(PATIENCE_S):
        return [await queue.get() for _ in range(count)]


def log_lines(text: str) -> list[dict[str, object]]:
    """Decode captured log lines."""
    return [msgspec.json.decode(line, type=dict[str, object]) for line in text.splitlines()]
