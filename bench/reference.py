"""The Rust reference beside ours in one run, where its programs are given by path.

It knows one place for configfs-tsm, so it runs in a mount namespace of its own in which that place
is the harness's. Everything else (key broker, quotes, sockets, clients) is the same for both.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import Figure, Report
from bench.processes import resident_mib
from demo.stage import Stage
from protos.stubs import AttestationAgentStub, GetResourceStub
from ttrpc import Client

SECRETS: Final = 10
STARTS: Final = 5
AGENT: Final = "attestation-agent"
HUB: Final = "confidential-data-hub"
# The namespace has its own /run as well: the reference makes its default directories there.
NAMESPACE: Final = """\
set -eu
mount --make-rprivate /
mount -t tmpfs none /sys/kernel
mkdir /sys/kernel/config
mount --bind "$1" /sys/kernel/config
mount -t tmpfs none /run
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """A running pair of agent and hub of the reference."""

    agent: Process
    hub: Process
    agent_socket: Path
    hub_socket: Path
    seconds: float  # from the first exec until the hub's socket is there


async def _start(stage: Stage, program: Path, arguments: list[str], socket: Path) -> Process:
    root = stage.harness.report_root.parent.parent
    process = await asyncio.create_subprocess_exec(
        "unshare", "-m", "sh", "-c", NAMESPACE, "sh", str(root), str(program), *arguments,
        stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(15):
        while not socket.exists():
            if process.returncode is not None:
                raise RuntimeError(f"{program} ended with code {process.returncode}")
            await asyncio.sleep(0.001)
    return process


@asynccontextmanager
async def running(stage: Stage, folder: Path) -> AsyncIterator[Reference]:
    """Start both programs of ``folder`` against the stage's harness."""
    work = stage.folder / "reference"
    work.mkdir(exist_ok=True)
    agent_socket, hub_socket = work / "aa.sock", work / "cdh.sock"
    for socket in (agent_socket, hub_socket):
        socket.unlink(missing_ok=True)
    url, cert = stage.harness.kbs_url, stage.harness.kbs_ca_pem
    (work / "aa.toml").write_text(
        f'[token_configs.kbs]\nurl = "{url}"\ncert = """\n{cert}"""\n[log]\nlevel = "error"\n'
    )
    (work / "cdh.toml").write_text(
        f'socket = "unix://{hub_socket}"\n[aa]\naa_socket = "unix://{agent_socket}"\n'
        f'[kbc]\nname = "cc_kbc"\nurl = "{url}"\nkbs_cert = """\n{cert}"""\n'
        '[log]\nlevel = "error"\n'
    )
    start = time.perf_counter()
    arguments = ["--attestation_sock", f"unix://{agent_socket}", "-c", str(work / "aa.toml")]
    agent = await _start(stage, folder / AGENT, arguments, agent_socket)
    try:
        hub = await _start(stage, folder / HUB, ["-c", str(work / "cdh.toml")], hub_socket)
        try:
            seconds = time.perf_counter() - start
            yield Reference(agent, hub, agent_socket, hub_socket, seconds)
        finally:
            hub.kill()
            await hub.wait()
    finally:
        agent.kill()
        await agent.wait()


async def ten_secrets(stage: Stage, socket: Path) -> tuple[float, int]:
    """Seconds and quotes for SECRETS resources asked for at once through a hub's socket."""
    before = await stage.harness.quotes_made()
    start = time.perf_counter()
    async with await Client.connect(str(socket), timeout_s=5) as client:
        stub = GetResourceStub(client)
        await asyncio.gather(
            *(stub.get_resource(f"kbs:///bench/ten/{n}", timeout_s=60) for n in range(SECRETS))
        )
    seconds = time.perf_counter() - start
    return seconds, await stage.harness.quotes_made() - before


async def measure(report: Report, folder: Path) -> None:
    """A quote takes a second here, as on a stock kernel: that is what the comparison is about."""
    async with Stage.open(latency=1.0) as stage:
        for number in range(SECRETS):
            await stage.harness.put_resource(f"bench/ten/{number}", b"x" * 32)
        starts = []
        for _ in range(STARTS):
            async with running(stage, folder) as peer:
                starts.append(peer.seconds)
        async with running(stage, folder) as peer:
            async with await Client.connect(str(peer.agent_socket), timeout_s=5) as client:
                await AttestationAgentStub(client).get_tee_type(timeout_s=5)
            theirs, their_quotes = await ten_secrets(stage, peer.hub_socket)
            memory = resident_mib(peer.agent.pid) + resident_mib(peer.hub.pid)
        ours, our_quotes = await ten_secrets(stage, stage.hub_socket)
        own = resident_mib(stage.daemon.pid)
    name = "reference"
    report.add(Figure("ten secrets at once, quote 1 s", "s", (ours,), "lower", 1.3, theirs, name))
    report.add(Figure("quotes for them", "", (our_quotes,), "lower", 1, their_quotes, name))
    report.add(Figure("memory after them (theirs: agent + hub)", "MiB", (own,), "lower", None,
                      memory, name))  # fmt: skip
    report.add(Figure("reference, start to both sockets", "s", tuple(starts), "lower"))
