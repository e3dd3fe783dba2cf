"""What a session costs and saves: twenty secrets on a one-second quote, and a warm resource."""

from __future__ import annotations

import asyncio
import time

from bench.figures import Figure, Report
from bench.processes import one_after_another
from demo.stage import Stage
from protos.stubs import GetResourceStub

SECRETS = 20
WARM = 300
ROUNDS = 5


async def twenty(stage: Stage) -> tuple[float, int]:
    """Seconds and quotes for SECRETS resources asked for at once without a session."""
    await stage.restart()
    before = await stage.harness.quotes_made()
    async with await stage.hub() as client:
        stub = GetResourceStub(client)
        start = time.perf_counter()
        await asyncio.gather(
            *(stub.get_resource(f"kbs:///bench/many/{n}", timeout_s=50) for n in range(SECRETS))
        )
        seconds = time.perf_counter() - start
    return seconds, await stage.harness.quotes_made() - before


async def warm(stage: Stage) -> tuple[float, float]:
    """One resource after another, each fetched from the key broker."""
    async with await stage.hub() as client:
        stub = GetResourceStub(client)
        return await one_after_another(
            stage.daemon.pid, lambda: stub.get_resource("kbs:///bench/many/0", timeout_s=50), WARM
        )


async def measure(report: Report) -> None:
    """Over TLS, the mock key broker's time included."""
    async with Stage.open(latency=1.0) as stage:
        for number in range(SECRETS):
            await stage.harness.put_resource(f"bench/many/{number}", b"x" * 32)
        runs = [await twenty(stage) for _ in range(ROUNDS)]
        report.add(
            Figure("twenty secrets at once, quote 1 s", "s", tuple(r[0] for r in runs),
                   "lower", 1.3)
        )  # fmt: skip
        report.add(Figure("quotes for them", "", tuple(r[1] for r in runs), "lower", 1))
        warmed = [await warm(stage) for _ in range(ROUNDS)]
        whole, own = tuple(r[0] for r in warmed), tuple(r[1] for r in warmed)
        report.add(Figure("warm resource, p50, mock KBS included", "ms", whole, "lower"))
        report.add(Figure("warm resource, own CPU time", "ms", own, "lower", 3))
