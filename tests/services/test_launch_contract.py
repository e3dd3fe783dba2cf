"""kata-agent's launch contract: its arguments, empty environment, console, and one connection.

Whoever passes here can be started by a stock agent of HEAD and of the CoCo 0.8 era.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mocktee.kbs.process import KbsProcess
from mocktee.pki import MockPki
from mocktee.seeding import EXAMPLE_RESOURCE, Seeds, seed_key_broker
from mocktee.tsm.process import TsmProcess
from protos import getresource_pb2
from protos.services import GET_RESOURCE_V0_8
from protos.stubs import AttestationAgentStub, GetResourceStub
from tests.services import faulty_program
from tests.services.faulty_program import CANARY
from tests.services.kata_agent import (
    AGENT_SOCKET,
    HUB_SOCKET,
    INITDATA,
    KataAgent,
    kata_agent,
)
from ttrpc import Client, StatusError

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

LIMIT_SECONDS = 60
DOCUMENT = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n'
RESOURCE = f"kbs:///{EXAMPLE_RESOURCE}"
OCICRYPT = {"OCICRYPT_KEYPROVIDER_CONFIG": "/etc/ocicrypt_config.json"}


@dataclass(frozen=True, slots=True)
class World:
    """What is outside of the guest."""

    tsm: TsmProcess
    kbs: KbsProcess
    seeds: Seeds


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("world")
    MockPki.create().save(folder / "pki")
    digest = hashlib.sha384(DOCUMENT).digest()
    async with AsyncExitStack() as stack:
        tsm = await stack.enter_async_context(
            TsmProcess.start(folder / "tee", folder / "pki", folder / "control", mrconfigid=digest)
        )
        kbs = await stack.enter_async_context(
            await KbsProcess.start(folder / "kbs", folder / "pki", tls=False)
        )
        seeds = Seeds()
        await seed_key_broker(kbs, seeds, (await tsm.state()).registers)
        yield World(tsm, kbs, seeds)


async def resource(client: Client, uri: str = RESOURCE) -> bytes:
    reply = await GetResourceStub(client).get_resource(uri, timeout_s=LIMIT_SECONDS)
    return reply.Resource


async def rest_connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Nothing tells when the port is there; kata-agent does not wait for it."""
    while True:
        with suppress(ConnectionRefusedError):
            return await asyncio.open_connection("127.0.0.1", 8006)
        await asyncio.sleep(0.05)


async def by_rest(path: str) -> tuple[bytes, bytes]:
    """Status line and body of a workload's request to the port that is fixed in kata's plan."""
    reader, writer = await rest_connection()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.partition(b"\r\n")[0], body


def assert_only_log_lines(said: bytes, *secrets: bytes) -> list[str]:
    """Whatever is on the console is a line of our log at level warning or above; no secret."""
    for secret in (*secrets, CANARY.encode()):
        assert secret not in said
        assert secret.hex().encode() not in said
    events = []
    for line in said.splitlines():
        record = json.loads(line)
        assert record["level"] in {"warning", "error"}
        events.append(record["event"])
    return events


def give_initdata(agent: KataAgent, world: World) -> None:
    """The agent writes the parts of initdata before it starts anything."""
    agent.write(f"{INITDATA}/initdata.toml", DOCUMENT)
    url = world.kbs.url
    agent.write(f"{INITDATA}/aa.toml", f'[token_configs.kbs]\nurl = "{url}"\n'.encode())
    agent.write(f"{INITDATA}/cdh.toml", f'[kbc]\nname = "cc_kbc"\nurl = "{url}"\n'.encode())


AGENT_ARGUMENTS = (
    "--attestation_sock", f"unix://{AGENT_SOCKET}",
    "--initdata-toml", f"{INITDATA}/initdata.toml",
    "-c", f"{INITDATA}/aa.toml",
)  # fmt: skip
HUB_ARGUMENTS = ("-c", f"{INITDATA}/cdh.toml")


async def test_the_plan_of_head(world: World, tmp_path: Path) -> None:
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        give_initdata(agent, world)
        await agent.launch("attestation-agent", *AGENT_ARGUMENTS, wait_for=AGENT_SOCKET)
        await agent.launch(
            "confidential-data-hub", *HUB_ARGUMENTS, wait_for=HUB_SOCKET, environ=OCICRYPT
        )
        await agent.launch("api-server-rest", "--features", "resource")
        async with await agent.connect() as client:
            assert await resource(client) == world.seeds.example_key
            status, body = await by_rest(f"/cdh/resource/{EXAMPLE_RESOURCE}")
            assert status == b"HTTP/1.1 200 OK"
            assert body == world.seeds.example_key
            with pytest.raises(StatusError):
                await resource(client, "kbs:///no/such/resource")
            assert await resource(client) == world.seeds.example_key
        said = agent.console.read()
        events = assert_only_log_lines(said, world.seeds.example_key)
        assert "request failed" in events
        assert all(process.returncode is None for process in agent.started)


async def test_the_plan_of_the_0_8_era(world: World, tmp_path: Path) -> None:
    folder = AGENT_SOCKET.rpartition("/")[0]
    sockets = [
        argument
        for name in ("keyprovider", "getresource")
        for argument in (f"--{name}_sock", f"unix://{folder}/{name}.sock")
    ]
    command_line = f"agent.aa_kbc_params=cc_kbc::{world.kbs.url}"
    async with (
        kata_agent(world.tsm, tmp_path, command_line=command_line) as agent,
        asyncio.timeout(LIMIT_SECONDS),
    ):
        await agent.launch(
            "attestation-agent", *sockets, "--attestation_sock", f"unix://{AGENT_SOCKET}",
            wait_for=AGENT_SOCKET,
        )  # fmt: skip
        await agent.launch("confidential-data-hub", wait_for=HUB_SOCKET)
        await agent.launch("api-server-rest", "--features", "resource")
        async with await agent.connect() as client:
            assert await resource(client) == world.seeds.example_key
        async with await agent.connect(AGENT_SOCKET) as client:
            assert (await AttestationAgentStub(client).get_tee_type()).tee == "tdx"
        async with await agent.connect(f"{folder}/getresource.sock") as client:
            reply = await client.call(
                GET_RESOURCE_V0_8,
                "GetResource",
                getresource_pb2.GetResourceRequest(
                    ResourcePath=f"/{EXAMPLE_RESOURCE}", KbcName="cc_kbc", KbsUri=world.kbs.url
                ),
                getresource_pb2.GetResourceResponse,
                timeout_s=LIMIT_SECONDS,
            )
            assert reply.Resource == world.seeds.example_key
        assert_only_log_lines(agent.console.read(), world.seeds.example_key)
        assert all(process.returncode is None for process in agent.started)


async def fail_inside(agent: KataAgent, victim: Process, number: signal.Signals) -> None:
    """Let background work of a program fail, and return when the program says so."""
    before = agent.console.read().count(b"part failed")
    victim.send_signal(number)
    while agent.console.read().count(b"part failed") == before:
        await asyncio.sleep(0.01)


FAULTY = (sys.executable, "-m", faulty_program.__name__)
HUB_FAULT, AGENT_FAULT = signal.SIGUSR1, signal.SIGUSR2


async def test_the_one_connection_survives_what_fails_inside(world: World, tmp_path: Path) -> None:
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        give_initdata(agent, world)
        own = await agent.launch((*FAULTY, "agent"), *AGENT_ARGUMENTS, wait_for=AGENT_SOCKET)
        hub = await agent.launch((*FAULTY, "cdh"), *HUB_ARGUMENTS, wait_for=HUB_SOCKET)
        async with await agent.connect() as client:
            assert await resource(client) == world.seeds.example_key
            for victim, fault in ((hub, HUB_FAULT), (own, AGENT_FAULT), (hub, HUB_FAULT)):
                await fail_inside(agent, victim, fault)
                assert await resource(client) == world.seeds.example_key
        events = assert_only_log_lines(agent.console.read(), world.seeds.example_key)
        assert events.count("part failed") == 3
        assert all(process.returncode is None for process in agent.started)


async def test_so_it_does_when_one_process_is_everything(world: World, tmp_path: Path) -> None:
    broker = f'url = "{world.kbs.url}"'
    text = f'[agent.token_configs.kbs]\n{broker}\n[cdh.kbc]\nname = "cc_kbc"\n{broker}\n'
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        agent.write("/run/cguest.toml", text.encode())
        only = await agent.launch(
            (*FAULTY, "cguestd"), "-c", "/run/cguest.toml", wait_for=HUB_SOCKET
        )
        async with await agent.connect() as client:
            quotes = (await world.tsm.state()).quotes_made
            for fault in (HUB_FAULT, AGENT_FAULT, AGENT_FAULT, HUB_FAULT):
                assert await resource(client) == world.seeds.example_key
                await fail_inside(agent, only, fault)
            assert await resource(client) == world.seeds.example_key
            # One for each of three agents: a new hub goes on with the session that is there.
            assert (await world.tsm.state()).quotes_made - quotes == 3
        assert_only_log_lines(agent.console.read(), world.seeds.example_key)
        assert only.returncode is None


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "takes nothing"])
async def test_the_console_does_not_stop_us(world: World, tmp_path: Path, closed: bool) -> None:
    """A hundred warnings are more than a terminal holds that nobody reads."""
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        agent.write(f"{INITDATA}/cdh.toml", b'[kbc]\nname = "cc_kbc"\n')
        hub = await agent.launch("confidential-data-hub", *HUB_ARGUMENTS, wait_for=HUB_SOCKET)
        if closed:
            agent.console.close()
        async with await agent.connect() as client:
            for _ in range(100):
                with pytest.raises(StatusError, match="no key broker is configured"):
                    await resource(client)
        assert hub.returncode is None
        hub.send_signal(signal.SIGTERM)
        assert await hub.wait() == 0


async def test_nothing_of_the_console_is_kept_but_for_log_lines(
    world: World, tmp_path: Path
) -> None:
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        agent.write(f"{INITDATA}/cdh.toml", b'[kbc]\nname = "cc_kbc"\n')
        hub = await agent.launch("confidential-data-hub", *HUB_ARGUMENTS, wait_for=HUB_SOCKET)
        folder = Path(f"/proc/{hub.pid}/fd")
        assert [(folder / number).readlink() for number in "01"] == [Path("/dev/null")] * 2


async def test_running_out_of_descriptors_passes(world: World, tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=40", str(Path(sys.executable).parent / "confidential-data-hub"))
    async with kata_agent(world.tsm, tmp_path) as agent, asyncio.timeout(LIMIT_SECONDS):
        agent.write(f"{INITDATA}/cdh.toml", b'[kbc]\nname = "cc_kbc"\n')
        await agent.launch(limited, *HUB_ARGUMENTS, wait_for=HUB_SOCKET)
        async with await agent.connect() as client:
            with pytest.raises(StatusError, match="no key broker is configured"):
                await resource(client)
            crowd = [
                (await asyncio.open_unix_connection(str(agent.outside(HUB_SOCKET))))[1]
                for _ in range(60)
            ]
            while b"accepting failed" not in agent.console.read():
                await asyncio.sleep(0.05)
            with pytest.raises(StatusError, match="no key broker is configured"):
                await resource(client)
            for writer in crowd:
                writer.close()
                await writer.wait_closed()
            async with await agent.connect() as another:
                with pytest.raises(StatusError, match="no key broker is configured"):
                    await resource(another)
        assert_only_log_lines(agent.console.read())
