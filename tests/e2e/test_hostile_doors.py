"""Hostile peers on the sockets of a real daemon: answered or closed, and nobody else suffers.

While each attack goes on, a client in good faith is served on every door (kept and new connections)
within its deadline, and the memory of the daemon stays within a bound.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from cguest.interface import InterfaceMethod, interface
from demo.stage import Stage
from tests.e2e.hostile import (
    HEADER,
    LIMIT,
    Companion,
    Door,
    closed,
    crowd,
    doors,
    drip,
    every_status,
    frame,
    next_reply,
    ordinary_calls,
    request,
    watched,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
TTRPC = ["agent", "hub"]
EVERY = ["agent", "hub", "rest"]
AT_A_TIME = 64  # attackers on one door


@asynccontextmanager
async def attacked(stage: Stage) -> AsyncIterator[Companion]:
    async with AsyncExitStack() as stack:
        calls = await ordinary_calls(stage, stack)
        yield await stack.enter_async_context(watched(stage.daemon.pid, calls))


def _method(name: str) -> InterfaceMethod:
    return interface()[name]


@pytest.mark.parametrize("name", EVERY)
async def test_garbage_is_answered_or_closed(stage: Stage, name: str) -> None:
    door = doors(stage)[name]
    rng = random.Random(20260601)
    async with attacked(stage), door.peers(AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(rng.randbytes(rng.choice((1, 9, 10, 11, 300, 70_000))))
            writer.write_eof()
        for reader, _ in streams:
            await closed(reader)


@pytest.mark.parametrize("name", TTRPC)
@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 2**32 - 1], ids=["limit", "over", "4-gib"])
async def test_lengths_that_lie(stage: Stage, name: str, length: int) -> None:
    """More is announced than ever comes: nothing is set aside for it."""
    door = doors(stage)[name]
    async with attacked(stage) as companion, door.peers(AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(frame(bytes(1000), length=length))
        await companion.served()


@pytest.mark.parametrize("name", TTRPC)
async def test_a_length_too_short_leaves_garbage_behind(stage: Stage, name: str) -> None:
    door = doors(stage)[name]
    async with attacked(stage), door.peers(AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(frame(b"\xff" * 1000, length=5))
            writer.write_eof()
        for reader, _ in streams:
            await closed(reader)


@pytest.mark.parametrize("method", sorted(interface()))
async def test_wrong_protobuf_to_every_method(stage: Stage, method: str) -> None:
    door = doors(stage)["agent" if "ttestation" in method else "hub"]
    asked = _method(method)
    async with door.peers(1) as [(reader, writer)]:
        for data in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 200, b"\x0a\x01"):
            writer.write(frame(request(asked.service, asked.name, data)))
            stream_id, reply = await next_reply(reader)
            assert stream_id == 1
            # 2: not the message it should be. 3, 5: not on this door, or not served by ttRPC.
            assert reply.status.code in {2, 3, 5}, reply.status.message
            assert len(reply.status.message) < 300
        writer.write(door.good)
        assert (await next_reply(reader))[1].status.code == 0


@pytest.mark.parametrize("name", TTRPC)
async def test_unknown_services_and_methods(stage: Stage, name: str) -> None:
    door = doors(stage)[name]
    known = next(m for m in interface().values() if m.service.startswith("cguest.v1.Mount"))
    async with attacked(stage), door.peers(1) as [(reader, writer)]:
        for number, (service, method, code) in enumerate(
            [("no.Such", "M", {3}), ("x" * 100_000, "M", {3}), ("", "", {3}),
             (known.service, "y" * 100_000, {12, 3}), (known.service, "", {12, 3})]
        ):  # fmt: skip
            writer.write(frame(request(service, method), stream_id=2 * number + 1))
            stream_id, reply = await next_reply(reader)
            assert stream_id == 2 * number + 1
            assert reply.status.code in code
            assert len(reply.status.message) < 300


@pytest.mark.parametrize("name", EVERY)
async def test_slow_peers_hold_up_nobody(stage: Stage, name: str) -> None:
    """A frame or a header that comes byte by byte and never ends."""
    door = doors(stage)[name]
    async with attacked(stage) as companion, door.peers(AT_A_TIME) as streams:
        await drip(streams, door.good[:-1])
        await companion.served()
        # Whoever was not closed for it meanwhile is answered once it has said everything.
        for reader, writer in streams:
            writer.write(door.good[-1:])
            writer.write_eof()
            await closed(reader)


@pytest.mark.parametrize("name", EVERY)
async def test_a_thousand_idle_connections(stage: Stage, name: str) -> None:
    door = doors(stage)[name]
    async with attacked(stage) as companion, crowd(door, 1000):
        await companion.served()


@pytest.mark.parametrize("name", TTRPC)
async def test_large_frames_that_are_never_finished(stage: Stage, name: str) -> None:
    """Each peer sends all but the last byte of the largest frame there is."""
    door = doors(stage)[name]
    async with attacked(stage) as companion, door.peers(3 * AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(frame(bytes(LIMIT - 1), length=LIMIT))
        await companion.served()


async def test_ten_thousand_http_requests_in_flight(stage: Stage) -> None:
    """Pipelined. A server may close, or say that it is too much, but not keep silent."""
    door = doors(stage)["rest"]
    async with attacked(stage) as companion, door.peers(20) as streams:
        for _, writer in streams:
            writer.write(door.good * 500)
        await companion.served(1)
        statuses = await asyncio.gather(*(every_status(reader, 500) for reader, _ in streams))
        assert all(statuses)
        assert {status for answers in statuses for status in answers} <= {200, 429, 503}


@pytest.mark.parametrize("name", TTRPC)
async def test_ten_thousand_requests_in_flight(stage: Stage, name: str) -> None:
    """All are sent before one answer is read; every one is answered, whatever the answer."""
    door = doors(stage)[name]
    envelope = door.good[HEADER.size :]
    each = 10_000 // 20
    burst = b"".join(frame(envelope, stream_id=2 * n + 1) for n in range(each))
    async with attacked(stage) as companion, door.peers(20) as streams:
        for _, writer in streams:
            writer.write(burst)
        await companion.served(1)
        for reader, _ in streams:
            answered = {(await next_reply(reader))[0] for _ in range(each)}
            assert answered == {2 * n + 1 for n in range(each)}


async def _leave(door: Door, said: bytes) -> None:
    async with door.peers(AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(said)
        await asyncio.gather(*(writer.drain() for _, writer in streams))


@pytest.mark.parametrize("name", EVERY)
async def test_peers_that_vanish_at_every_stage(stage: Stage, name: str) -> None:
    """Before a word, within the header, after it, within the body, before the answer."""
    door = doors(stage)[name]
    stages = [0, 4, HEADER.size, len(door.good) // 2, len(door.good) - 1, len(door.good)]
    async with attacked(stage) as companion:
        for end in stages:
            await _leave(door, door.good[:end])
        await _leave(door, door.good * 50)
        await companion.served()


async def test_evidence_whose_caller_vanishes_is_given_up(stage: Stage) -> None:
    """The most expensive call there is: a quote for nobody."""
    door = doors(stage)["agent"]
    asked = request("attestation_agent.AttestationAgentService", "GetEvidence")
    async with attacked(stage) as companion:
        for _ in range(3):
            await _leave(door, frame(asked))
        await companion.served()
