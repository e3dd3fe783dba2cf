"""No peer gets more than its share, and nobody waits behind one that takes too much."""

from __future__ import annotations

import asyncio
import io
import resource
import socket
from pathlib import Path

import pytest

from lifecycle import UnixAddress, listen_unix
from protos.api_pb2 import GetResourceRequest as Asked
from secrecy.journal import configure_logging
from tests.services.ttrpc.rig import PATIENCE_S, SERVICE, Rig, call, next_of
from ttrpc import (
    MAX_DATA_BYTES,
    AnyMethod,
    Client,
    Limits,
    Server,
    ServiceTable,
    ServiceTableError,
)

BIG = "x" * (MAX_DATA_BYTES - 64)


async def test_calls_beyond_the_bound_wait_their_turn(tmp_path: Path) -> None:
    async with Rig.running(tmp_path, Limits(calls_per_connection=2)) as rig, rig.peer() as peer:
        for stream_id in (1, 3, 5, 7):
            peer.request(stream_id, "Hold", str(stream_id))
        assert await next_of(rig.service.entered, 2) == ["1", "3"]
        async with await rig.client() as other:  # by the time it is served, 5 could have been too
            assert await call(other, "Echo", "other") == b"other"
        assert rig.service.entered.empty()
        rig.service.release.set()
        assert {(await peer.reply()).stream_id for _ in range(4)} == {1, 3, 5, 7}
        assert await next_of(rig.service.entered, 2) == ["5", "7"]


async def test_request_bytes_beyond_the_bound_wait_their_turn(tmp_path: Path) -> None:
    limits = Limits(request_bytes_per_connection=MAX_DATA_BYTES)
    async with (
        Rig.running(tmp_path, limits) as rig,
        await rig.client() as client,
        await rig.client() as other,
        asyncio.TaskGroup() as group,
    ):
        calls = [group.create_task(call(client, "Hold", BIG)) for _ in range(4)]
        # The one that crosses the bound is still taken, as its size is known only when read.
        await next_of(rig.service.entered, 2)
        assert await call(other, "Echo", "other") == b"other"
        assert rig.service.entered.empty()
        rig.service.release.set()
        assert [len(await held) for held in calls] == [len(BIG)] * 4


async def test_all_connections_have_a_common_bound_and_each_may_begin(tmp_path: Path) -> None:
    limits = Limits(request_bytes=MAX_DATA_BYTES)
    async with (
        Rig.running(tmp_path, limits) as rig,
        await rig.client() as first,
        await rig.client() as second,
        asyncio.TaskGroup() as group,
    ):
        calls = [group.create_task(call(first, "Hold", BIG)) for _ in range(3)]
        await next_of(rig.service.entered, 2)
        calls.append(group.create_task(call(second, "Hold", BIG)))
        await next_of(rig.service.entered)
        calls.append(group.create_task(call(second, "Hold", "small")))
        async with await rig.client() as third:
            assert await call(third, "Echo", "third") == b"third"
        assert rig.service.entered.empty()
        rig.service.release.set()
        assert [len(await held) for held in calls] == [len(BIG)] * 4 + [len("small")]
        assert rig.server._budgets.requests.held == 0


async def test_a_peer_that_vanishes_holds_nothing_any_more(rig: Rig) -> None:
    async with rig.peer() as peer, await rig.client() as other:
        for stream_id in range(1, 200, 2):
            peer.request(stream_id, "Hold", "x" * 1000)
        peer.writer.write_eof()
        await peer.end_of_stream()
        assert await call(other, "Echo", "other") == b"other"
        async with asyncio.timeout(PATIENCE_S):
            while rig.server.connections > 1:
                await asyncio.sleep(0)
        assert rig.server._budgets.requests.held == 0


async def test_a_slow_reader_holds_up_its_own_calls_only(rig: Rig) -> None:
    async with rig.peer() as slow, await rig.client() as other:
        for stream_id in range(1, 41, 2):
            slow.request(stream_id, "Size", str(MAX_DATA_BYTES // 2))
        for number in range(50):
            assert await call(other, "Echo", str(number)) == str(number).encode()
        assert {(await slow.reply()).stream_id for _ in range(20)} == set(range(1, 41, 2))
        assert await slow.is_alive()


async def test_requests_are_not_taken_from_one_who_takes_no_replies(rig: Rig) -> None:
    async with rig.peer() as slow, await rig.client() as other:
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for stream_id in range(1, 9, 2):
            slow.request(stream_id, "Size", str(MAX_DATA_BYTES // 2))
        await call(other, "Echo", "all four are being answered by now")
        slow.request(9, "Hold", "not yet")
        for number in range(50):
            await call(other, "Echo", str(number))
        assert rig.service.entered.empty()
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert {(await slow.reply()).stream_id for _ in range(4)} == {1, 3, 5, 7}
        assert await next_of(rig.service.entered) == ["not yet"]


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(Limits(reply_bytes_per_connection=MAX_DATA_BYTES), id="of-one"),
        pytest.param(Limits(reply_bytes=MAX_DATA_BYTES), id="of-all"),
    ],
)
async def test_replies_that_nobody_takes_have_a_bound(tmp_path: Path, limits: Limits) -> None:
    half = MAX_DATA_BYTES // 2
    async with (
        Rig.running(tmp_path, limits) as rig,
        rig.peer() as slow,
        await rig.client() as other,
    ):
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for stream_id in range(1, 25, 2):
            slow.request(stream_id, "Size", str(half))
        await call(other, "Echo", "all are being answered by now")
        assert half <= rig.server._budgets.replies.held < MAX_DATA_BYTES + 12 * 200
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        replies = {reply.stream_id: reply for reply in [await slow.reply() for _ in range(12)]}
        assert set(replies) == set(range(1, 25, 2))
        # One goes to the transport, and those that wait cross the bound by one at most.
        whole = [reply for reply in replies.values() if len(reply.payload) >= half]
        assert len(whole) in (3, 4)
        dropped = {(reply.code, reply.text) for reply in replies.values() if reply not in whole}
        assert dropped == {(8, "too much that was not taken waits before this reply")}
        assert await slow.is_alive()
        assert rig.server._budgets.replies.held == 0


async def test_one_who_takes_nothing_is_disconnected_in_the_end(tmp_path: Path) -> None:
    limits = Limits(stalled_write_s=0.05)
    async with Rig.running(tmp_path, limits) as rig, rig.peer() as slow:
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        slow.request(1, "Hold", "held")
        await next_of(rig.service.entered)
        for stream_id in range(3, 9, 2):
            slow.request(stream_id, "Size", str(MAX_DATA_BYTES // 2))
        assert await next_of(rig.service.cancelled) == ["held"]


async def test_drain_lets_calls_finish_and_refuses_new_ones(rig: Rig) -> None:
    async with rig.peer() as peer, rig.peer() as idle:
        assert await idle.is_alive()
        peer.request(1, "Hold", "in flight")
        await next_of(rig.service.entered)
        draining = asyncio.create_task(rig.server.drain(PATIENCE_S))  # awaited below
        assert await idle.end_of_stream() == b""
        peer.request(3, "Echo", "too late")
        reply = await peer.reply()
        assert (reply.stream_id, reply.code, reply.text) == (3, 14, "the server is stopping")
        assert not draining.done()
        rig.service.release.set()
        reply = await peer.reply()
        assert (reply.stream_id, reply.code) == (1, 0)
        assert await peer.end_of_stream() == b""
        await draining
        await rig.serving
        assert rig.server.connections == 0


async def test_drain_ends_a_connection_whose_last_frames_were_all_refused(rig: Rig) -> None:
    async with rig.peer() as peer:
        for _ in range(1000):  # more than are handled in one turn
            peer.send(2, 1, 0, b"")
        await peer.reply()
        async with asyncio.timeout(PATIENCE_S):
            await rig.server.drain(10 * PATIENCE_S)
        assert rig.server.connections == 0


async def test_drain_cuts_off_what_does_not_finish(rig: Rig) -> None:
    async with rig.peer() as peer:
        peer.request(1, "Hold", "endless")
        await next_of(rig.service.entered)
        await rig.server.drain(0.05)
        assert await next_of(rig.service.cancelled) == ["endless"]
        reply = await peer.reply()
        assert (reply.stream_id, reply.code) == (1, 1)
        assert await peer.end_of_stream() == b""
        await rig.serving


async def test_a_drained_server_accepts_nobody(rig: Rig) -> None:
    await rig.server.drain(PATIENCE_S)
    async with await rig.client() as client:  # the backlog takes it, nobody ever will
        waiting = asyncio.create_task(call(client, "Echo"))  # awaited below
        await rig.serving
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_draining_a_server_that_never_served_returns() -> None:
    await Server([]).drain(PATIENCE_S)


async def test_cancelling_serve_cancels_handlers_and_starts_no_more(tmp_path: Path) -> None:
    async with Rig.running(tmp_path, Limits(calls_per_connection=1)) as rig, rig.peer() as peer:
        peer.request(1, "Hold", "running")
        peer.request(3, "Hold", "waiting")
        assert await next_of(rig.service.entered) == ["running"]
        rig.serving.cancel()
        assert await next_of(rig.service.cancelled) == ["running"]
        await asyncio.wait([rig.serving])
        assert rig.service.entered.empty()
        assert rig.server.connections == 0


async def test_two_tables_of_one_service_are_refused(rig: Rig) -> None:
    with pytest.raises(ServiceTableError) as caught:
        Server([rig.service.table(), rig.service.table()])
    assert caught.value.service == SERVICE


async def test_a_method_of_no_kind_is_refused() -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="/s/M is of no kind"):
        Server([ServiceTable("s", {"M": AnyMethod(Asked, Asked, handler)})])


async def test_one_server_serves_two_sockets(rig: Rig, tmp_path: Path) -> None:
    with await listen_unix(UnixAddress(str(tmp_path / "second.sock"))) as second:
        serving = asyncio.create_task(rig.server.serve(second.sock))  # awaited below
        async with await rig.client() as a, await Client.connect(second.address.path) as b:
            assert await call(a, "Echo", "a") == b"a"
            assert await call(b, "Echo", "b") == b"b"
            await rig.server.drain(PATIENCE_S)
        await serving
        await rig.serving


async def test_running_out_of_descriptors_passes(rig: Rig) -> None:
    reported = asyncio.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "accepting failed" in text and "EMFILE" in text:
                reported.set()
            return len(text)

    configure_logging("warning", Stream())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(rig.path)
        peer.setblocking(False)
        try:
            # The lowest free number is the first that may no longer be given out.
            with socket.socket(socket.AF_UNIX) as lowest_free:
                limit = lowest_free.fileno()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            async with asyncio.timeout(PATIENCE_S):
                await reported.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await loop.sock_sendall(peer, bytes(10))
        async with asyncio.timeout(PATIENCE_S):
            assert b"stream id must be odd" in await loop.sock_recv(peer, 100)
