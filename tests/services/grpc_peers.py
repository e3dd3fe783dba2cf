"""What tests of gRPC doors share: a handler, grpcio as client, and a client without manners."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import grpc  # type: ignore[import-untyped]
import pytest
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import Event, ResponseReceived, TrailersReceived

from lifecycle import UnixAddress
from protos import api_pb2
from serving.doors import GrpcDoor
from serving.grpc_tables import GrpcLimits, GrpcListener, open_grpc
from ttrpc import (
    MAX_DATA_BYTES,
    CallContext,
    Code,
    Method,
    Sender,
    ServerStreamMethod,
    ServiceTable,
    StatusError,
    unsupported,
)

SERVICE = "api.GetResourceService"
GET = f"/{SERVICE}/GetResource"
# A length of this size takes four bytes, a tag one.
LARGEST = MAX_DATA_BYTES - 5


class Echo:
    """A handler that does what the path of the resource asks for."""

    def __init__(self) -> None:
        self.contexts: list[CallContext] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.running = self.most = 0

    async def get(
        self, request: api_pb2.GetResourceRequest, context: CallContext
    ) -> api_pb2.GetResourceResponse:
        self.contexts.append(context)
        match request.ResourcePath.partition(":")[::2]:
            case ["refuse", text]:
                raise StatusError(Code.INTERNAL, text, refused=True)
            case ["code", number]:
                raise StatusError(Code(int(number)), "as asked")
            case ["break", _]:
                raise ValueError("a text that must not leave")
            case ["wait", _]:
                await self._wait()
            case ["size", number]:
                return api_pb2.GetResourceResponse(Resource=b"x" * int(number))
            case _:
                pass
        return api_pb2.GetResourceResponse(Resource=request.ResourcePath.encode())

    async def _wait(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1

    def table(self) -> ServiceTable:
        method = Method(api_pb2.GetResourceRequest, api_pb2.GetResourceResponse, self.get)
        absent = Method(
            api_pb2.GetResourceRequest, api_pb2.GetResourceResponse, unsupported("/a.B/Absent")
        )
        stream = ServerStreamMethod(
            api_pb2.GetResourceRequest, api_pb2.GetResourceResponse, self._stream
        )
        return ServiceTable(SERVICE, {"GetResource": method, "Absent": absent, "Watch": stream})

    async def _stream(
        self,
        _request: api_pb2.GetResourceRequest,
        _sender: Sender[api_pb2.GetResourceResponse],
        _context: CallContext,
    ) -> None:
        raise AssertionError("gRPC serves no streams")


@asynccontextmanager
async def serve(
    folder: Path, echo: Echo, limits: GrpcLimits | None = None
) -> AsyncIterator[GrpcListener]:
    address = GrpcDoor(UnixAddress(str(folder / "door.sock")))
    async with open_grpc([echo.table()], address, limits) as listener:
        yield listener


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def listener(tmp_path: Path, echo: Echo) -> AsyncIterator[GrpcListener]:
    async with serve(tmp_path, echo) as listener:
        yield listener


OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.default_authority", "localhost"),
]


def target_of(listener: GrpcListener) -> str:
    target = listener.address.target
    if isinstance(target, UnixAddress):
        return f"unix:{target.path}"
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{listener.port}"


@asynccontextmanager
async def channel_to(listener: GrpcListener) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target_of(listener), options=OPTIONS) as channel:
        yield channel


async def call(
    channel: grpc.aio.Channel,
    text: str,
    *,
    method: str = GET,
    timeout: float | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
    wait_for_ready: bool = False,
) -> bytes:
    call = channel.unary_unary(
        method,
        request_serializer=api_pb2.GetResourceRequest.SerializeToString,
        response_deserializer=api_pb2.GetResourceResponse.FromString,
    )
    request = api_pb2.GetResourceRequest(ResourcePath=text)
    reply = await call(request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready)
    return bytes(reply.Resource)


async def status_of(
    channel: grpc.aio.Channel, text: str, **options: object
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, text, **options)  # type: ignore[arg-type]
    return caught.value


def payload_of(text: str) -> bytes:
    return api_pb2.GetResourceRequest(ResourcePath=text).SerializeToString()


class RawClient:
    """A client that says what it likes, on a blocking-free socket of its own."""

    def __init__(self, listener: GrpcListener) -> None:
        target = listener.address.target
        assert isinstance(target, UnixAddress)
        self._path = target.path
        self._socket = socket.socket(socket.AF_UNIX)
        self._events: list[Event] = []
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()

    def __enter__(self) -> Self:
        self._socket.connect(self._path)
        self._socket.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, **changed: str | None) -> int:
        headers: dict[str, str | None] = {
            ":method": "POST",
            ":scheme": "http",
            ":path": GET,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        if "path" in headers:
            headers[":path"] = headers.pop("path")
        if "method" in headers:
            headers[":method"] = headers.pop("method")
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(k, v) for k, v in headers.items() if v is not None])
        self.stream = stream
        return stream

    def message(self, payload: bytes, *, announced: int | None = None, end: bool = True) -> None:
        length = len(payload) if announced is None else announced
        self.h2.send_data(self.stream, struct.pack(">BI", 0, length) + payload, end_stream=end)

    def reopen(self) -> None:
        """Go on as if no GOAWAY had come."""
        self.h2.state_machine.state = ConnectionState.CLIENT_OPEN

    async def send(self, data: bytes | None = None) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, self.h2.data_to_send() if data is None else data)

    async def receive(self) -> bool:
        async with asyncio.timeout(20):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
        if data:
            self._events += self.h2.receive_data(data)
            await self.send()
        return bool(data)

    async def until(self, kind: type[Event]) -> Event:
        while True:
            for event in self._events:
                if isinstance(event, kind):
                    self._events.remove(event)
                    return event
            assert await self.receive(), f"closed before {kind.__name__}"

    async def trailers(self, stream: int) -> dict[str, str]:
        """Return the headers that carry the status."""
        while True:
            for event in self._events:
                if (
                    isinstance(event, ResponseReceived | TrailersReceived)
                    and event.stream_id == stream
                ):
                    found = {str(k): str(v) for k, v in event.headers}
                    if "grpc-status" in found or found.get(":status", "200") != "200":
                        return found
            assert await self.receive(), "closed without an answer"

    async def closed(self) -> None:
        while await self.receive():
            pass
