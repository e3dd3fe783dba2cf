"""Hostile peers on the doors that are opened by configuration: gRPC, metrics, REST's unix socket.

As in ``test_hostile_doors``: somebody in good faith beside each attack is served in time.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from grpclib.client import Channel, UnaryUnaryMethod
from h2.config import H2Configuration
from h2.connection import H2Connection

from cguest.grpc_asking import ask
from demo.stage import Daemon, Stage, free_port
from protos import attestation_agent_pb2 as aa
from protos import cguest_pb2, services
from tests.e2e.hostile import (
    DEADLINE_S,
    Call,
    Companion,
    Door,
    closed,
    crowd,
    drip,
    http_status,
    patient,
    watched,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
TEE_TYPE = f"/{services.ATTESTATION_AGENT}/GetTeeType"
LIST_MOUNTS = f"/{services.MOUNT}/ListMounts"
AT_A_TIME = 48
GRPC = ["grpc", "grpc-unix"]
EVERY = [*GRPC, "metrics", "rest-unix"]
RULES = """
socket = "unix://{folder}/rest.sock"
[[rest.rules]]
name = "all"
who = "anyone"
resources = ["*/*/*"]
"""


def grpc_request(path: str, *, resets: int = 0) -> bytes:
    """What a gRPC client writes for one call without fields, or calls opened and reset at once."""
    h2 = H2Connection(H2Configuration(client_side=True, header_encoding="ascii"))
    h2.initiate_connection()
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
        ("te", "trailers"), ("content-type", "application/grpc"),
    ]  # fmt: skip
    for _ in range(resets):
        stream = h2.get_next_available_stream_id()
        h2.send_headers(stream, headers)
        h2.reset_stream(stream)
    if not resets:
        h2.send_headers(1, headers)
        h2.send_data(1, bytes(5), end_stream=True)
    data: bytes = h2.data_to_send()
    return data


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Rig:
    """A daemon with these doors."""

    daemon: Daemon
    port: int
    folder: Path

    def door(self, name: str) -> Door:
        return {
            "grpc": Door("grpc", None, self.port, grpc_request(TEE_TYPE)),
            "grpc-unix": Door(name, self.folder / "hub.grpc", 0, grpc_request(LIST_MOUNTS)),
            "metrics": Door(name, self.folder / "metrics.sock", 0, get("/metrics")),
            "rest-unix": Door(name, self.folder / "rest.sock", 0, get("/info")),
        }[name]

    @asynccontextmanager
    async def attacked(self) -> AsyncIterator[Companion]:
        async with AsyncExitStack() as stack:
            channel = Channel("127.0.0.1", self.port)
            stack.callback(channel.close)
            kinds = (aa.GetTeeTypeRequest, aa.GetTeeTypeResponse)
            kept = UnaryUnaryMethod(channel, TEE_TYPE, *kinds)
            calls = [self._kept(kept), self._new_agent, patient(self._new_hub)]
            calls += [self._http(name) for name in ("metrics", "rest-unix")]
            yield await stack.enter_async_context(watched(self.daemon.pid, calls))

    def _kept(self, method: UnaryUnaryMethod[aa.GetTeeTypeRequest, aa.GetTeeTypeResponse]) -> Call:
        async def call() -> None:
            assert (await method(aa.GetTeeTypeRequest(), timeout=DEADLINE_S)).tee == "tdx"

        return call

    async def _new_agent(self) -> None:
        address = f"127.0.0.1:{self.port}"
        await ask(address, TEE_TYPE, aa.GetTeeTypeRequest(), aa.GetTeeTypeResponse, DEADLINE_S)

    async def _new_hub(self) -> None:
        kinds = cguest_pb2.ListMountsRequest(), cguest_pb2.ListMountsResponse
        await ask(f"grpc+unix://{self.folder}/hub.grpc", LIST_MOUNTS, *kinds, DEADLINE_S)

    def _http(self, name: str) -> Call:
        door = self.door(name)

        async def call() -> None:
            async with door.peers(1) as [(reader, writer)]:
                writer.write(door.good)
                assert await http_status(reader) == 200

        return call


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(stage: Stage) -> AsyncIterator[Rig]:
    folder, config, port = stage.folder / "more", stage.folder / "more.toml", free_port()
    stage.harness.write_config(config, folder, rest_bind="127.0.0.1:0")
    text = config.read_text()
    for section, address in (
        ("agent", f"127.0.0.1:{port}"),
        ("cdh", f"grpc+unix://{folder}/hub.grpc"),
    ):
        text = re.sub(rf'(?<=\[{section}\]\nsocket = )"[^"]*"', f'"{address}"', text, count=1)
    rest = RULES.format(folder=folder)
    text = text.replace("\n[log]", f"{rest}\n[log]")
    config.write_text(f'{text}\n[metrics]\nsocket = "unix://{folder}/metrics.sock"\n')
    daemon = await Daemon.start(config, stage.folder)
    yield Rig(daemon, port, folder)
    assert await daemon.stop() == 0


@pytest.mark.parametrize("name", EVERY)
async def test_garbage_is_answered_or_closed(rig: Rig, name: str) -> None:
    rng = random.Random(20260601)
    start = grpc_request(TEE_TYPE)[:40] if name in GRPC else b""
    async with rig.attacked(), rig.door(name).peers(AT_A_TIME) as streams:
        for number, (_, writer) in enumerate(streams):
            writer.write(start * (number % 2) + rng.randbytes(rng.choice((1, 9, 300, 70_000))))
            writer.write_eof()
        for reader, _ in streams:
            await closed(reader)


@pytest.mark.parametrize("name", EVERY)
async def test_slow_peers_hold_up_nobody(rig: Rig, name: str) -> None:
    door = rig.door(name)
    async with rig.attacked() as companion, door.peers(AT_A_TIME) as streams:
        await drip(streams, door.good[:-1])
        await companion.served()


@pytest.mark.parametrize("name", EVERY)
async def test_a_thousand_idle_connections(rig: Rig, name: str) -> None:
    async with rig.attacked() as companion, crowd(rig.door(name), 1000):
        await companion.served()


@pytest.mark.parametrize("name", EVERY)
async def test_peers_that_vanish_at_every_stage(rig: Rig, name: str) -> None:
    door = rig.door(name)
    async with rig.attacked() as companion:
        for end in (0, 4, 24, len(door.good) // 2, len(door.good) - 1, len(door.good)):
            async with door.peers(AT_A_TIME) as streams:
                for _, writer in streams:
                    writer.write(door.good[:end])
                await asyncio.gather(*(writer.drain() for _, writer in streams))
        await companion.served()


@pytest.mark.parametrize("name", GRPC)
async def test_calls_that_are_opened_and_reset_at_once(rig: Rig, name: str) -> None:
    """CVE-2023-44487: 10,000 calls that cost their sender nothing."""
    burst = grpc_request(TEE_TYPE, resets=10_000 // AT_A_TIME)
    async with rig.attacked() as companion, rig.door(name).peers(AT_A_TIME) as streams:
        for _, writer in streams:
            writer.write(burst)
        await companion.served()
