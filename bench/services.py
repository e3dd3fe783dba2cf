"""Start, memory, requests per second, handshake: the figures of the daemon itself."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp

from bench.figures import Figure, Report, rates
from bench.processes import cpu_seconds, resident_mib
from demo.stage import Daemon, Stage
from protos.stubs import AttestationAgentStub, AttestationStatusStub, GetResourceStub
from ttrpc import Client, ConnectionLostError

# As in an image: schemathesis brings rich along, which structlog loads wherever it finds it.
CGUESTD = (
    sys.executable, "-I", "-c",
    "import sys; sys.modules['rich'] = None; from cguestd.__main__ import main; sys.exit(main())",
)  # fmt: skip
STARTS = 10
CALLS = 4000
IN_FLIGHT = 16
ROUNDS = 5
HANDSHAKES = 40


async def first_answer(stage: Stage) -> float:
    """Seconds from ``exec`` to the first answered ttRPC request, as a waiting caller sees it."""
    await stage.daemon.stop()
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *CGUESTD, "-c", str(stage.config),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    client: Client | None = None
    while client is None:
        try:
            client = await Client.connect(str(stage.hub_socket), timeout_s=1.0)
        except ConnectionLostError:
            await asyncio.sleep(0.002)
    async with client, await stage.agent() as agent:
        await AttestationAgentStub(agent).get_tee_type(timeout_s=5)
    elapsed = time.perf_counter() - start
    stage.daemon = Daemon(process, stage.daemon.log)
    return elapsed


async def repeat(call: Callable[[], Awaitable[object]], count: int, in_flight: int) -> float:
    """Seconds for ``count`` calls with ``in_flight`` at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await call()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(worker())
    return time.perf_counter() - start


async def requests_per_second(stage: Stage, report: Report) -> None:
    uri = "kbs:///default/key/1"
    async with await stage.hub() as client:
        stub = GetResourceStub(client)

        async def over_ttrpc() -> object:
            return await stub.get_resource(uri, timeout_s=20)

        await over_ttrpc()
        seconds = [await repeat(over_ttrpc, CALLS, IN_FLIGHT) for _ in range(ROUNDS)]
        report.add(
            Figure("cached resource, ttRPC, 16 in flight", "/s", rates(CALLS, seconds), "higher")
        )
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(stage.rest_url, connector=connector) as http:

        async def over_rest() -> object:
            async with http.get("/cdh/resource/default/key/1") as reply:
                reply.raise_for_status()
                return await reply.read()

        await over_rest()
        seconds = [await repeat(over_rest, CALLS, IN_FLIGHT) for _ in range(ROUNDS)]
        report.add(
            Figure(
                "cached resource, REST, 16 in flight (client in Python on the other core)",
                "/s",
                rates(CALLS, seconds),
                "higher",
                2000,
            )
        )


async def handshake(stage: Stage, report: Report) -> None:
    """Handshake plus one resource with a quote that takes no time; wall and own processor time."""
    await stage.harness.put_resource("bench/fresh/1", b"x" * 32)
    walls, own = [], []
    async with await stage.agent() as agent, await stage.hub() as hub:
        status, resource = AttestationStatusStub(agent), GetResourceStub(hub)
        await status.attest(force=True, timeout_s=20)
        for _ in range(ROUNDS):
            before, start = cpu_seconds(stage.daemon.pid), time.perf_counter()
            for _ in range(HANDSHAKES):
                await status.attest(force=True, timeout_s=20)
                await resource.get_resource("kbs:///bench/fresh/1", timeout_s=20)
            walls.append((time.perf_counter() - start) / HANDSHAKES * 1000)
            own.append((cpu_seconds(stage.daemon.pid) - before) / HANDSHAKES * 1000)
    report.add(
        Figure("handshake + resource, wall, KBS and quote included", "ms", tuple(walls), "lower")
    )
    report.add(Figure("handshake + resource, own CPU time", "ms", tuple(own), "lower", 10))


async def measure(report: Report) -> None:
    """All figures of the daemon. The quote takes no time here: its cost is the kernel's."""
    async with Stage.open(latency=0.0, cache_seconds=300.0) as stage:
        # What is measured is the door, not its rate limit, and no receipts, as by default. The
        # daemon is started anew below.
        text = stage.config.read_text().replace("enabled = true", "enabled = false")
        limits = "limits = {requests_per_second = 1e6, burst = 65536}"
        stage.config.write_text(text.replace("[rest]\n", f"[rest]\n{limits}\n"))
        starts = tuple([await first_answer(stage) for _ in range(STARTS)])
        report.add(Figure("start to first accepted request", "s", starts, "lower", 0.5))
        await asyncio.sleep(1)
        idle = resident_mib(stage.daemon.pid)
        report.add(Figure("resident memory, all services, idle", "MiB", (idle,), "lower", 60))
        await requests_per_second(stage, report)
        await handshake_uncached(report)
        worked = resident_mib(stage.daemon.pid)
        report.add(Figure("resident memory after the requests", "MiB", (worked,), "lower"))


async def handshake_uncached(report: Report) -> None:
    """The resource of the handshake figure must come from the KBS, so its stage has no cache."""
    async with Stage.open(latency=0.0) as stage:
        await handshake(stage, report)
