"""systemd hears from us after answers, and only then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle import Readiness, UnixAddress
from protos import attestation_agent_pb2 as aa
from protos.services import ATTESTATION_AGENT
from serving.doors import Door, UnixDoor
from serving.opening import open_doors
from serving.watchdog import HttpRequest, SelfRequest, Watchdog
from ttrpc import CallContext, Code, Method, ServiceTable, StatusError, TtrpcError

LIMIT_SECONDS = 20


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield sock


def readiness(tmp_path: Path, micros: int = 90_000) -> Readiness:
    return Readiness({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(micros)})


async def test_nothing_is_said_until_everybody_answers(
    tmp_path: Path, notified: socket.socket
) -> None:
    answers = asyncio.Event()
    rounds = asyncio.Semaphore(0)

    async def quick(_seconds: float) -> None:
        rounds.release()

    async def hanging(_seconds: float) -> None:
        await answers.wait()

    watching = asyncio.create_task(
        Watchdog(readiness(tmp_path), {"quick": quick, "hanging": hanging, "none": None}).run()
    )
    async with asyncio.timeout(LIMIT_SECONDS):
        for _ in range(4):
            await rounds.acquire()
        with pytest.raises(BlockingIOError):
            notified.recv(64)
        answers.set()
        assert await asyncio.get_running_loop().sock_recv(notified, 64) == b"WATCHDOG=1"
    watching.cancel()


async def test_without_a_watchdog_there_are_no_requests() -> None:
    async def never(_seconds: float) -> None:
        pytest.fail("asked")

    await Watchdog(Readiness({}), {"x": never}).run()
    await Watchdog(Readiness({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}), {"x": never}).run()


async def test_a_refusal_is_an_answer_and_a_lost_connection_is_made_anew(tmp_path: Path) -> None:
    async def refuse(
        _request: aa.GetTeeTypeRequest, _context: CallContext
    ) -> aa.GetTeeTypeResponse:
        raise StatusError(Code.UNAVAILABLE, "being opened again")

    method = Method(aa.GetTeeTypeRequest, aa.GetTeeTypeResponse, refuse)
    address = UnixAddress(str(tmp_path / "a.sock"))
    door = Door(UnixDoor(address), [ServiceTable(ATTESTATION_AGENT, {"GetTeeType": method})])
    probe = SelfRequest(
        address, ATTESTATION_AGENT, "GetTeeType", aa.GetTeeTypeRequest(), aa.GetTeeTypeResponse
    )
    async with asyncio.timeout(LIMIT_SECONDS):
        async with open_doors({"a": door}):
            await probe(1.0)
        with pytest.raises((TtrpcError, OSError)):
            await probe(1.0)
        async with open_doors({"a": door}):
            await probe(1.0)
            await probe.aclose()


@pytest.mark.parametrize(
    ("reply", "answered"),
    [(b"HTTP/1.1 503 x\r\n\r\n", True), (b"", False)],
    ids=["any status", "closed"],
)
async def test_http_counts_when_a_status_line_comes(reply: bytes, answered: bool) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        writer.close()

    async with asyncio.timeout(LIMIT_SECONDS), await asyncio.start_server(serve, "::1") as server:
        port = server.sockets[0].getsockname()[1]
        probe = HttpRequest("::1", port, "/livez")
        if answered:
            await probe(1.0)
        else:
            with pytest.raises(ConnectionResetError):
                await probe(1.0)
    assert asked[0].startswith(f"GET /livez HTTP/1.1\r\nHost: [::1]:{port}\r\n".encode())
