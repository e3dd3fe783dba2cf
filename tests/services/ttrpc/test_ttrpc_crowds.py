"""Crowds of idle, slow and vanishing peers: closed or answered, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.services.ttrpc.rig import HEADER, PATIENCE_S, Rig, call, next_of
from ttrpc import MAX_DATA_BYTES, Client, ConnectionLostError, Limits


@contextlib.contextmanager
def crowd(path: str, count: int) -> Iterator[list[socket.socket]]:
    """Connect so many sockets, which do nothing."""
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(count):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(PATIENCE_S)
            peer.connect(path)
            peers.append(peer)
        yield peers


@contextlib.asynccontextmanager
async def crowd_of_another_process(path: str, count: int) -> AsyncIterator[None]:
    """As :func:`crowd`, by a process of its own."""
    program = (
        "import socket, sys\n"
        "peers = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]))]\n"
        "for peer in peers: peer.connect(sys.argv[1])\n"
        "print('connected', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, path, str(count),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.stdout.readline() == b"connected\n"
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def ended(peer: socket.socket) -> bytes:
    """Return what comes before the server closes."""
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        while piece := await loop.sock_recv(peer, 65536):
            received += piece
    return received


async def patient_client(rig: Rig) -> Client:
    """Connect, again while the kernel's queue of the socket is full."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await rig.client()
            except ConnectionLostError:
                await asyncio.sleep(0)


async def test_a_thousand_idle_peers_lock_nobody_out(rig: Rig) -> None:
    async with await rig.client() as agent:
        assert await call(agent, "Echo", "first") == b"first"
        async with crowd_of_another_process(rig.path, 1000), await patient_client(rig) as late:
            assert await call(late, "Echo", "late") == b"late"
            assert await call(agent, "Echo", "again") == b"again"
            assert rig.server.connections <= Limits().connections_per_process + 2
        assert await call(agent, "Echo", "after") == b"after"


async def test_the_one_that_never_called_leaves_and_is_told_by_the_end(tmp_path: Path) -> None:
    limits = Limits(connections_per_process=2)
    async with Rig.running(tmp_path, limits) as rig, await rig.client() as agent:
        assert await call(agent, "Echo", "first") == b"first"
        with crowd(rig.path, 1) as (idle,):
            async with await rig.client() as late:
                assert await call(late, "Echo", "late") == b"late"
            assert await ended(idle) == b""
        assert await call(agent, "Echo", "again") == b"again"


async def test_when_all_are_busy_the_newcomer_is_turned_away(tmp_path: Path) -> None:
    async with Rig.running(tmp_path, Limits(connections_per_process=1)) as rig, rig.peer() as peer:
        peer.request(1, "Hold", "held")
        await next_of(rig.service.entered)
        with crowd(rig.path, 1) as (late,):
            assert await ended(late) == b""
        rig.service.release.set()
        assert (await peer.reply()).code == 0


async def test_a_full_server_takes_from_the_process_that_has_most(tmp_path: Path) -> None:
    async with (
        Rig.running(tmp_path, Limits(connections=8)) as rig,
        crowd_of_another_process(rig.path, 8),
        await rig.client() as client,
    ):
        assert await call(client, "Echo", "in") == b"in"
        assert rig.server.connections == 8


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"\0", id="one-byte"),
        pytest.param(HEADER.pack(100, 1, 1, 0), id="header-only"),
        pytest.param(HEADER.pack(100, 1, 1, 0) + bytes(99), id="all-but-one-byte"),
        pytest.param(HEADER.pack(0xFFFF_FFFF, 1, 1, 0) + bytes(1000), id="endless-frame"),
        pytest.param(HEADER.pack(0, 2, 9, 0) + b"\0", id="after-a-whole-one"),
    ],
)
async def test_a_frame_that_is_never_completed_ends_its_connection(
    tmp_path: Path, beginning: bytes
) -> None:
    async with (
        Rig.running(tmp_path, Limits(partial_frame_s=0.05)) as rig,
        await rig.client() as idle,
    ):
        assert await call(idle, "Echo", "a") == b"a"
        with crowd(rig.path, 1) as (slow,):
            slow.sendall(beginning)
            assert b"timeout" not in await ended(slow)
        assert await call(idle, "Echo", "b") == b"b"  # idle as long, and still there


async def test_incomplete_frames_have_a_common_bound(tmp_path: Path) -> None:
    limits = Limits(partial_bytes=3 * MAX_DATA_BYTES)
    part = HEADER.pack(MAX_DATA_BYTES, 1, 1, 0) + bytes(MAX_DATA_BYTES - 100)
    async with Rig.running(tmp_path, limits) as rig, await rig.client() as client:
        with crowd(rig.path, 4) as peers:
            for number, peer in enumerate(peers):
                await asyncio.to_thread(peer.sendall, part)
                assert await call(client, "Echo", str(number)) == str(number).encode()
            assert await ended(peers[0]) == b""
            assert rig.server.connections == 4
            big = "x" * (MAX_DATA_BYTES - 100)
            assert await call(client, "Echo", big) == big.encode()


async def test_peers_that_vanish_in_the_middle_leave_nothing(rig: Rig) -> None:
    async with await rig.client() as client:
        for number in range(200):
            async with rig.peer() as peer:
                peer.writer.write(HEADER.pack(1000, 1, 1, 0) + bytes(number))
        assert await call(client, "Echo", "there") == b"there"
        async with asyncio.timeout(PATIENCE_S):
            while rig.server.connections > 1:
                await asyncio.sleep(0)


async def test_ten_thousand_requests_in_flight_on_one_connection(rig: Rig) -> None:
    async with rig.peer() as peer, await rig.client() as other:
        for number in range(10_000):
            peer.request(2 * number + 1, "Hold")
        limit = Limits().calls_per_connection
        await next_of(rig.service.entered, limit)
        for number in range(20):
            assert await call(other, "Echo", str(number)) == str(number).encode()
        assert rig.service.entered.empty()
        rig.service.release.set()
        answered = {(await peer.reply()).stream_id for _ in range(10_000)}
        assert answered == {2 * number + 1 for number in range(10_000)}


async def test_an_idle_connection_keeps_no_message(rig: Rig) -> None:
    big = "x" * (MAX_DATA_BYTES - 100)
    async with await rig.client() as client:
        await call(client, "Echo", big)
        (connection,) = rig.server._connections
        assert connection._decoder.held == 0
        assert len(connection._decoder._buffer) == 0
        assert len(client._exchange._decoder._buffer) == 0
