"""``cguestd`` under a service manager: passed sockets, readiness, watchdog, reload, orderly end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from protos import cguest_pb2
from protos.services import HUB_STATUS
from protos.stubs import AttestationAgentStub
from tests.conftest import ROOT
from ttrpc import Client

LIMIT_SECONDS = 30
# What systemd does between fork and exec: descriptors from 3 on, and whose they are.
PASSING = """
import os, sys
for number, descriptor in enumerate(sys.argv[1].split(","), 3):
    os.dup2(int(descriptor), number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@dataclass(frozen=True, slots=True)
class Manager:
    """A service manager as far as a service sees it, and where the service's files are."""

    folder: Path
    notified: socket.socket

    @property
    def config(self) -> Path:
        return self.folder / "cguest.toml"

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.sock")

    def write(self, *, hub: str = "", more: str = "") -> None:
        absent = self.folder / "absent"
        self.config.write_text(
            f"""
            [agent]
            socket = "unix://{self.path("agent")}"
            [agent.tee]
            allow_sample = true
            report_path = "{absent}"
            measurements_path = "{absent}"
            ccel_path = "{absent}"
            attest_conf_path = "{absent}"
            [cdh]
            socket = "unix://{self.path("hub")}"
            {hub}
            {more}
            """
        )

    async def next_state(self) -> list[str]:
        message = await asyncio.get_running_loop().sock_recv(self.notified, 4096)
        return message.decode().splitlines()

    @asynccontextmanager
    async def started(
        self, passed: Mapping[str, socket.socket] | None = None, watchdog_usec: int = 0
    ) -> AsyncIterator[Process]:
        program = ["-m", "cguestd", "-c", str(self.config), "--services", "agent,hub"]
        environ = {"NOTIFY_SOCKET": str(self.folder / "notify")}
        passed = passed or {}
        if passed:
            descriptors = ",".join(str(sock.fileno()) for sock in passed.values())
            program = ["-c", PASSING, descriptors, *program]
            environ |= {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(passed)}
        if watchdog_usec:
            environ["WATCHDOG_USEC"] = str(watchdog_usec)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, cwd=ROOT, env=environ, stderr=PIPE,
            pass_fds=[sock.fileno() for sock in passed.values()],
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notified:
        notified.bind(str(tmp_path / "notify"))
        own = Manager(tmp_path, notified)
        own.write()
        yield own


def listening(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


async def hub_source(client: Client) -> cguest_pb2.HubStatus:
    request = cguest_pb2.GetHubStatusRequest()
    return await client.call(
        HUB_STATUS, "GetStatus", request, cguest_pb2.HubStatus, timeout_s=LIMIT_SECONDS
    )


async def test_a_call_made_before_the_start_is_answered_and_the_sockets_stay(
    manager: Manager,
) -> None:
    sockets = {name: listening(manager.path(name)) for name in ("hub", "agent")}
    async with await Client.connect(manager.path("agent")) as client:
        early = asyncio.create_task(AttestationAgentStub(client).get_tee_type())
        async with manager.started(sockets) as process:
            assert (await early).tee == "sample"
            assert await manager.next_state() == ["READY=1"]
            process.send_signal(signal.SIGTERM)
            assert await manager.next_state() == ["STOPPING=1"]
            assert await process.wait() == 0
    for name, sock in sockets.items():
        assert Path(manager.path(name)).exists()  # they are the manager's
        sock.close()


@pytest.mark.parametrize(
    ("name", "path", "problem"),
    [
        ("agent", "elsewhere", b"the socket passed as agent listens on another path"),
        ("rest", "agent", b"expected one of agent, hub"),
    ],
    ids=["other path", "unknown name"],
)
async def test_sockets_that_disagree_with_the_configuration_are_refused(
    manager: Manager, name: str, path: str, problem: bytes
) -> None:
    with listening(manager.path(path)) as sock:
        async with manager.started({name: sock}) as process:
            _, said = await process.communicate()
            assert process.returncode == 1
            assert problem in said
            assert len(said.splitlines()) == 1 + said.count(b'"level":"warning"')


async def test_the_watchdog_is_told_again_and_again(manager: Manager) -> None:
    async with manager.started(watchdog_usec=300_000):
        assert await manager.next_state() == ["READY=1"]
        for _ in range(5):
            assert await manager.next_state() == ["WATCHDOG=1"]


async def reload_of(manager: Manager, process: Process) -> str:
    """Ask for a reload and return what the manager is told about it."""
    process.send_signal(signal.SIGHUP)
    begun = await manager.next_state()
    assert begun[0] == "RELOADING=1"
    assert begun[1].startswith("MONOTONIC_USEC=")
    (status,) = await manager.next_state()
    assert await manager.next_state() == ["READY=1"]
    return status


async def test_a_reload_changes_what_it_can_and_drops_no_connection(manager: Manager) -> None:
    async with manager.started() as process:
        assert await manager.next_state() == ["READY=1"]
        async with (
            await Client.connect(manager.path("hub")) as hub,
            await Client.connect(manager.path("agent")) as agent,
        ):
            assert (await hub_source(hub)).source == "none"

            manager.write(hub='[cdh.kbc]\nname = "cc_kbc"\nurl = "http://127.0.0.1:1"')
            assert await reload_of(manager, process) == "STATUS=reloaded"
            assert (await hub_source(hub)).source == "cc_kbc"

            manager.write(more='[agent.token_configs.kbs]\nurl = "http://127.0.0.1:2"')
            assert await reload_of(manager, process) == "STATUS=reloaded"
            assert (await hub_source(hub)).source == "none"
            assert (await AttestationAgentStub(agent).get_tee_type()).tee == "sample"

            manager.write(more='[metrics]\nsocket = "unix:///somewhere/else"')
            assert await reload_of(manager, process) == (
                "STATUS=reloaded; a restart is needed for metrics"
            )
            manager.write(more='[log]\nlevel = "info"')
            assert await reload_of(manager, process) == "STATUS=reloaded"
            assert process.stderr is not None
            await process.stderr.readuntil(b'"event":"reloaded","level":"info"')
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("hub", "problem"),
    [
        ("no_such_key = 1", "no_such_key"),
        ('[cdh.kbc]\nname = "cc_kbc"\nurl = "https://127.0.0.1:1"\nkbs_cert = "x"', "certificate"),
    ],
    ids=["not read", "not opened"],
)
async def test_a_bad_configuration_is_refused_and_nothing_changes(
    manager: Manager, hub: str, problem: str
) -> None:
    async with manager.started() as process:
        assert await manager.next_state() == ["READY=1"]
        async with await Client.connect(manager.path("hub")) as client:
            manager.write(hub=hub)
            said = await reload_of(manager, process)
            assert said.startswith("STATUS=reload refused: ")
            assert problem in said.lower()
            assert (await hub_source(client)).source == "none"
            manager.write(hub='[cdh.kbc]\nname = "cc_kbc"\nurl = "http://127.0.0.1:1"')
            assert await reload_of(manager, process) == "STATUS=reloaded"
            assert (await hub_source(client)).source == "cc_kbc"
