"""Real servers with every real service table on real sockets, as targets for a fuzzer.

The agent is a ``sample`` one, the hub has no key broker, REST asks both in this process. What is
sent goes through framing, envelopes, dispatching and handlers. A handler that fails in a way that
it does not know is a finding, like silence.
"""

from __future__ import annotations

import asyncio
import functools
import struct
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection

from agent.compose import open_agent
from agent.config import AgentConfig, EventlogConfig, TeeConfig
from cdh.compose import open_hub
from cdh.config import CdhConfig, KbcSection, MountsSection
from cguest.interface import interface
from lifecycle import UnixAddress, listen_unix
from rest.app import open_rest
from rest.backends import Backends, TtrpcAttestation, TtrpcResources
from rest.config import RestConfig
from rest.sections import LimitsConfig, RuleConfig
from serving.grpc_tables import GrpcServer
from tests.fuzz.door_parsers import DoorTarget
from ttrpc import Server
from ttrpc.envelope_pb2 import Request, Response

PATIENCE_S: Final = 20.0  # a bound on hanging, never on speed
HEADER: Final = struct.Struct(">IIBB")
METHODS: Final = sorted(interface())
SETTINGS: Final = 4  # type of the frame
UNEXPECTED: Final = "failed unexpectedly"
KNOWN: Final = (b"ttrpc request error", b"Illegal AAEL")


class Doors:
    """Servers in a loop of their own, which runs only while an input is tried."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-doors-"))
        self.loop.run_until_complete(self._open())
        self.kept: dict[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def _open(self) -> None:
        self.stack = stack = AsyncExitStack()  # never left: the process ends with the run
        settings = TeeConfig(allow_sample=True)
        agent = await stack.enter_async_context(
            open_agent(AgentConfig(tee=settings, eventlog_config=EventlogConfig(False)))
        )
        hub = await stack.enter_async_context(
            open_hub(
                CdhConfig(
                    kbc=KbcSection(name="offline_fs_kbc", offline_files=()),
                    mounts=MountsSection(allowed_roots=(str(self.folder / "mounts"),)),
                )
            )
        )
        self.tasks = [self.loop.create_task(hub.background())]
        for name, tables in (("agent", agent.tables), ("hub", hub.tables)):
            listening = await listen_unix(UnixAddress(str(self.folder / name)))
            self.tasks.append(self.loop.create_task(Server(tables).serve(listening.sock)))
            grpc = await listen_unix(UnixAddress(str(self.folder / f"{name}.grpc")))
            self.tasks.append(self.loop.create_task(GrpcServer(tables).serve(grpc.sock)))
        resources = TtrpcResources(UnixAddress(str(self.folder / "hub")))
        attestation = TtrpcAttestation(UnixAddress(str(self.folder / "agent")))
        everything = RuleConfig(
            "all", "anyone", resources=("*/*/*",), tokens=("*",), evidence=True, measure=True
        )
        config = RestConfig(
            bind="127.0.0.1:0",
            features="all",
            socket=f"unix://{self.folder}/rest",
            rules=(everything,),
            limits=LimitsConfig(
                requests_per_second=1e6, burst=65536, head_seconds=0.05, body_seconds=0.05
            ),
        )
        await stack.enter_async_context(open_rest(config, Backends(resources, attestation)))

    async def _connect(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.folder / name))

    async def say_all(self, name: str, data: bytes) -> bytes:
        """Send everything on a connection of its own, and return what comes until it is closed."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await self._connect(name)
            try:
                writer.write(data)
                writer.write_eof()
                return await reader.read(-1)
            except ConnectionError:
                return b""
            finally:
                writer.transport.abort()

    async def first_words(self, name: str, data: bytes) -> bytes:
        """Send everything and return what comes first, without hanging up before."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await self._connect(name)
            try:
                writer.write(data)
                return await reader.read(65536)
            except ConnectionError:
                return b""
            finally:
                writer.transport.abort()

    async def ask(self, name: str, envelope: bytes) -> Response:
        """Send one frame on a connection that is kept, and return its answer."""
        async with asyncio.timeout(PATIENCE_S):
            if name not in self.kept:
                self.kept[name] = await self._connect(name)
            reader, writer = self.kept[name]
            writer.write(HEADER.pack(len(envelope), 1, 1, 0) + envelope)
            length, stream_id, kind, flags = HEADER.unpack(await reader.readexactly(HEADER.size))
            assert (stream_id, kind, flags) == (1, 2, 0)
            return Response.FromString(await reader.readexactly(length))


@functools.cache
def _doors() -> Doors:
    return Doors()


def _frames_of(said: bytes) -> None:
    while said:
        length, _, kind, _ = HEADER.unpack(said[: HEADER.size])
        assert kind in {2, 3}
        response = Response.FromString(said[HEADER.size :][:length])
        assert UNEXPECTED not in response.status.message
        said = said[HEADER.size + length :]


def _ttrpc(data: bytes) -> None:
    doors = _doors()
    for name in ("agent", "hub"):
        _frames_of(doors.loop.run_until_complete(doors.say_all(name, data)))


def _methods(data: bytes) -> None:
    """The first byte chooses the method, the others are its request."""
    doors = _doors()
    service, _, method = METHODS[data[0] % len(METHODS) if data else 0].partition("/")
    door = "agent" if "ttestation" in service else "hub"
    envelope = Request(service=service, method=method, payload=data[1:])
    response = doors.loop.run_until_complete(doors.ask(door, envelope.SerializeToString()))
    assert UNEXPECTED not in response.status.message, response.status.message
    assert 0 <= response.status.code <= 16


def _http(data: bytes) -> None:
    """What is not finished by itself is, so that there is something to answer."""
    doors = _doors()
    said = doors.loop.run_until_complete(doors.first_words("rest", data + b"\r\n\r\n"))
    assert not said or said.startswith(b"HTTP/"), said[:20]
    # 500 is an answer of ours, and then has a text that says what failed.
    assert b" 500 " not in said[:13] or any(word in said for word in KNOWN), said[:300]


def _grpc(data: bytes) -> None:
    """What is said first is settings, whatever comes (RFC 9113, 3.4)."""
    doors = _doors()
    said = doors.loop.run_until_complete(doors.say_all("agent.grpc", data))
    assert not said or said[3] == SETTINGS, said[:20]
    assert UNEXPECTED.encode() not in said


def _grpc_request(name: str) -> bytes:
    h2 = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
    h2.initiate_connection()
    h2.send_headers(1, [
        (":method", "POST"), (":scheme", "http"), (":path", f"/{name}"), (":authority", "a"),
        ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", "1S"),
    ])  # fmt: skip
    h2.send_data(1, bytes(5), end_stream=True)
    data: bytes = h2.data_to_send()
    return data


def _frame(service: str, method: str) -> bytes:
    envelope = Request(service=service, method=method).SerializeToString()
    return HEADER.pack(len(envelope), 1, 1, 0) + envelope


SOCKETS: Final = (
    DoorTarget(
        "ttrpc-connection", _ttrpc, (),
        (*(_frame(*name.split("/")) for name in METHODS[:3]),
         HEADER.pack(0, 3, 3, 5) + HEADER.pack(2, 5, 3, 0) + b"ab"),
    ),
    DoorTarget(
        "ttrpc-methods", _methods, (),
        tuple(bytes([n]) + b"\x0a\x0dkbs:///a/b/c/d" for n in range(len(METHODS))),
    ),
    DoorTarget(
        "grpc-connection", _grpc, (),
        tuple(_grpc_request(name) for name in METHODS if name.startswith("attestation_agent")),
    ),
    DoorTarget(
        "rest-connection", _http, (),
        (b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n",
         b"POST /aa/aael HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
         b"POST /aa/aael HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         b"GET /cdh/resource/a/b/c HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"),
    ),
)  # fmt: skip
