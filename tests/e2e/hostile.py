"""Peers that mean harm, the well-behaved one beside them, and what is seen of the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from demo.stage import Stage
from protos.stubs import AttestationAgentStub, MountStub
from ttrpc import ConnectionLostError
from ttrpc.envelope_pb2 import Request, Response

HEADER = struct.Struct(">IIBB")
REQUEST = 1
LIMIT = 4 * 1024 * 1024
DEADLINE_S = 10.0  # what the well-behaved client gives each of its calls
PATIENCE_S = 60.0  # a bound on hanging, never on speed
GROWTH = 128 * 1024 * 1024  # bytes that one attack may cost at most, while it goes on
INFO = b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def allow_descriptors() -> None:
    """A thousand peers need more descriptors than many a login grants."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))


def frame(data: bytes, *, stream_id: int = 1, kind: int = REQUEST, length: int = -1) -> bytes:
    """A frame whose length field may lie."""
    return HEADER.pack(len(data) if length < 0 else length, stream_id, kind, 0) + data


def request(service: str, method: str, payload: bytes = b"") -> bytes:
    return Request(service=service, method=method, payload=payload).SerializeToString()


TEE_TYPE = request("attestation_agent.AttestationAgentService", "GetTeeType")
LIST_MOUNTS = request("cguest.v1.MountService", "ListMounts")


async def _connected(path: Path) -> socket.socket:
    """Connect, waiting while the backlog is full: asyncio takes EAGAIN here for a success."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while (code := sock.connect_ex(str(path))) == errno.EAGAIN:
            await asyncio.sleep(0.01)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:  # cleaned up and passed on, cancellation included
        sock.close()
        raise
    return sock


@dataclass(frozen=True, slots=True)
class Door:
    """Where a peer connects, and a frame or request that is in order."""

    name: str
    path: Path | None
    port: int
    good: bytes

    async def connect(self) -> Stream:
        async with asyncio.timeout(PATIENCE_S):
            if self.path is not None:
                return await asyncio.open_unix_connection(sock=await _connected(self.path))
            return await asyncio.open_connection("127.0.0.1", self.port)

    @asynccontextmanager
    async def peers(self, count: int) -> AsyncIterator[list[Stream]]:
        """So many connections; all are gone afterwards, without a goodbye."""
        streams: list[Stream] = []
        try:
            for _ in range(count):
                streams.append(await self.connect())  # noqa: PERF401 - those made are closed below
            yield streams
        finally:
            for _, writer in streams:
                writer.transport.abort()


def doors(stage: Stage) -> dict[str, Door]:
    return {
        "agent": Door("agent", stage.agent_socket, 0, frame(TEE_TYPE)),
        "hub": Door("hub", stage.hub_socket, 0, frame(LIST_MOUNTS)),
        "rest": Door("rest", None, stage.rest_port, INFO),
    }


async def next_reply(reader: asyncio.StreamReader) -> tuple[int, Response]:
    """The next response frame: its stream id and the envelope."""
    async with asyncio.timeout(PATIENCE_S):
        length, stream_id, _, _ = HEADER.unpack(await reader.readexactly(HEADER.size))
        return stream_id, Response.FromString(await reader.readexactly(length))


async def closed(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the daemon closes, however it does."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""


async def http_status(reader: asyncio.StreamReader) -> int:
    """Read one whole answer that states its length, and return its status."""
    async with asyncio.timeout(PATIENCE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next(int(x.partition(":")[2]) for x in lines if x.startswith("content-length:"))
        await reader.readexactly(length)
        return int(lines[0].split()[1])


async def every_status(reader: asyncio.StreamReader, count: int) -> list[int]:
    """The statuses of so many answers, or of fewer if the daemon closes."""
    answers = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for _ in range(count):
            answers.append(await http_status(reader))  # noqa: PERF401 - kept if it ends early
    return answers


def resident(pid: int) -> int:
    """Bytes of memory the process has in RAM (proc_pid_statm(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def until_descriptors(pid: int, most: int) -> None:
    """Return when the daemon has let go of its peers. The kernel has no event for this."""
    async with asyncio.timeout(PATIENCE_S):
        while descriptors(pid) > most:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def crowd(door: Door, count: int) -> AsyncIterator[None]:
    """So many idle connections of another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.crowd", str(door.path or door.port), str(count),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


Call = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Companion:
    """A client in good faith, which goes on with its calls, one after the other.

    Each has to be answered within ``DEADLINE_S``; the first that is not ends it, and whoever waits
    for it learns why.
    """

    calls: Sequence[Call]
    rounds: int = 0
    _another: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def beside(cls, calls: Sequence[Call]) -> AsyncIterator[Self]:
        companion = cls(calls)
        companion._task = asyncio.create_task(companion._go_on())
        try:
            await companion.served()
            yield companion
            await companion.served()
        finally:
            companion._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await companion._task

    async def served(self, rounds: int = 3) -> None:
        """Return after so many more rounds. Raises what a round of it failed with."""
        assert self._task is not None
        goal = self.rounds + rounds
        async with asyncio.timeout(PATIENCE_S):
            while self.rounds < goal:
                self._another.clear()
                waiting = asyncio.create_task(self._another.wait())
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self._task.done():
                    self._task.result()

    async def _go_on(self) -> None:
        while True:
            for call in self.calls:
                async with asyncio.timeout(DEADLINE_S):
                    await call()
            self.rounds += 1
            self._another.set()
            await asyncio.sleep(0.02)  # good manners, not synchronisation


async def ordinary_calls(stage: Stage, stack: AsyncExitStack) -> list[Call]:
    """Kept connections as kata-agent's, and new ones, on every door of the stage."""
    agent = await stack.enter_async_context(await stage.agent())
    hub = await stack.enter_async_context(await stage.hub())

    async def kept_agent() -> None:
        await AttestationAgentStub(agent).get_tee_type(timeout_s=DEADLINE_S)

    async def kept_hub() -> None:
        await MountStub(hub).list_mounts(timeout_s=DEADLINE_S)

    async def new_agent() -> None:
        async with await stage.agent() as client:
            await AttestationAgentStub(client).get_tee_type(timeout_s=DEADLINE_S)

    async def new_hub() -> None:
        async with await stage.hub() as client:
            await MountStub(client).list_mounts(timeout_s=DEADLINE_S)

    async def rest() -> None:
        while (status := await _info(stage.rest_port)) == 429:
            await asyncio.sleep(1)  # as the answer asks for
        assert status == 200

    return [kept_agent, kept_hub, patient(new_agent), patient(new_hub), rest]


def patient(call: Call) -> Call:
    """The call on one more connection for as long as the backlog is full, which is no answer."""

    async def again() -> None:
        while True:
            try:
                return await call()
            except (ConnectionLostError, AttributeError):  # the latter is grpclib's word for it
                await asyncio.sleep(0.01)

    return again


async def _info(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(INFO)
        return await http_status(reader)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def watched(pid: int, calls: Sequence[Call]) -> AsyncIterator[Companion]:
    """A companion beside; the daemon's memory is bounded, and no descriptor stays behind."""
    allow_descriptors()
    before, memory = descriptors(pid), resident(pid)
    async with Companion.beside(calls) as companion:
        yield companion
        assert resident(pid) - memory < GROWTH
    await until_descriptors(pid, before + 2)


async def drip(streams: Iterable[Stream], text: bytes) -> None:
    """Send ``text`` on every stream, one byte at a time, all of them in turn."""
    for at in range(len(text)):
        for _, writer in streams:
            writer.write(text[at : at + 1])
        await asyncio.sleep(0)
