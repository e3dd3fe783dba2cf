"""What sealed secrets cost: a hundred at once on a guest that starts, and one after another."""

from __future__ import annotations

import asyncio
import time

from bench.figures import Figure, Report
from bench.processes import cpu_seconds, one_after_another
from cdh.sealed.seal import generate_signing_key, seal_vault
from demo.stage import Stage
from protos.stubs import SealedSecretStub

SECRETS = 100
WARM = 300
ROUNDS = 5
KID = "kbs:///bench/signing-key/1"
SIGNER = generate_signing_key(KID)
TEXTS = [
    seal_vault(f"kbs:///bench/many/{n}", kid=KID, private_jwk=SIGNER.private_jwk).encode()
    for n in range(SECRETS)
]


async def at_once(stage: Stage, stub: SealedSecretStub) -> tuple[float, float]:
    """All of TEXTS: wall clock and the daemon's own processor time in milliseconds."""
    before = cpu_seconds(stage.daemon.pid)
    start = time.perf_counter()
    await asyncio.gather(*(stub.unseal_secret(text, timeout_s=50) for text in TEXTS))
    wall = time.perf_counter() - start
    own = cpu_seconds(stage.daemon.pid) - before
    return wall * 1000, own * 1000


async def hundred(stage: Stage) -> tuple[float, float, int]:
    """SECRETS opened at once without a session, over one connection as kata-agent has it.

    Returns wall clock and the daemon's own processor time in milliseconds, and quotes.
    """
    await stage.restart()
    quotes = await stage.harness.quotes_made()
    async with await stage.hub() as client:
        stub = SealedSecretStub(client)
        wall, own = await at_once(stage, stub)
    return wall, own, await stage.harness.quotes_made() - quotes


async def again(stage: Stage) -> tuple[float, float]:
    """The same with a session: wall clock and own processor time in milliseconds."""
    async with await stage.hub() as client:
        stub = SealedSecretStub(client)
        await stub.unseal_secret(TEXTS[0], timeout_s=50)
        return await at_once(stage, stub)


async def warm(stage: Stage) -> tuple[float, float]:
    """One after another, key and secret fetched for each."""
    async with await stage.hub() as client:
        stub = SealedSecretStub(client)
        return await one_after_another(
            stage.daemon.pid, lambda: stub.unseal_secret(TEXTS[0], timeout_s=50), WARM
        )


async def measure(report: Report) -> None:
    """Over TLS, the mock key broker's time included in what is wall clock."""
    for cache in (0.0, 60.0):
        kept = f", cache {cache:g} s" if cache else ""
        async with Stage.open(latency=0.0, cache_seconds=cache) as stage:
            await stage.harness.put_resource("bench/signing-key/1", SIGNER.public_jwk)
            for number in range(SECRETS):
                await stage.harness.put_resource(f"bench/many/{number}", b"x" * 32)
            cold = [await hundred(stage) for _ in range(ROUNDS)]
            ready = [await again(stage) for _ in range(ROUNDS)]
            single = [await warm(stage) for _ in range(ROUNDS)]
        walls, owns = tuple(r[0] for r in cold), tuple(r[1] for r in cold)
        report.add(Figure(f"hundred unsealed at start, all{kept}", "ms", walls, "lower"))
        report.add(Figure(f"hundred unsealed at start, own CPU{kept}", "ms", owns, "lower", 150))
        quotes = tuple(float(r[2]) for r in cold)
        report.add(Figure(f"quotes for them{kept}", "", quotes, "lower", 1))
        own = tuple(r[1] for r in ready)
        report.add(Figure(f"hundred unsealed, session there, own CPU{kept}", "ms", own, "lower"))
        p50, own = tuple(r[0] for r in single), tuple(r[1] for r in single)
        report.add(Figure(f"unseal, p50, mock KBS included{kept}", "ms", p50, "lower", 3))
        report.add(Figure(f"unseal, own CPU{kept}", "ms", own, "lower", 3))
