"""Calls over ttRPC beside Go's implementation: our server and client, theirs, and both mixtures.

The server has the first of this process's cores to itself, the client the others. A call is a
GetResource that answers 1 KiB.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Better, Figure, Report
from bench.processes import resident_mib

CALLS = 20_000
ROUNDS = 5
IN_FLIGHT = (1, 16, 128)
RATE_TARGET = 8000.0
P99_TARGET_MS = 5.0
GROWTH_TARGET_MIB = 2.0
FIRST_CALLS, ALL_CALLS = 1_000, 100_000
SECONDS = 240.0  # a bound on hanging


@dataclass(frozen=True, slots=True)
class Side:
    """An implementation: how its server and its client are started."""

    name: str
    server: Sequence[str]
    client: Sequence[str]


@dataclass(frozen=True, slots=True)
class Round:
    """What one run of a client came to; times in milliseconds."""

    rate: float
    p50: float
    p99: float


def ours() -> Side:
    command = (sys.executable, "-m", "bench.ttrpc_ends")
    return Side("ours", (*command, "server"), (*command, "client"))


def theirs() -> Side | None:
    """Go's, if there is a Go to compile it with."""
    if shutil.which("go") is None:
        return None
    # The tests' tools are loaded for this part of the bench only.
    from tests.interop.toolchains import build_go_peer

    program = str(build_go_peer())
    return Side("Go", (program, "server"), (program, "bench"))


def cores() -> tuple[str, str]:
    """The server's core and the client's, as taskset(1) takes them."""
    first, *others = sorted(os.sched_getaffinity(0))
    return str(first), ",".join(map(str, others or [first]))


@asynccontextmanager
async def serving(side: Side, socket: Path) -> AsyncIterator[Process]:
    """The side's server, pinned before it starts: Go looks at its cores then."""
    process = await asyncio.create_subprocess_exec(
        "taskset", "-c", cores()[0], *side.server, socket, stdin=PIPE, stdout=PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        async with asyncio.timeout(SECONDS):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the server of {side.name} did not start")
        yield process
        process.stdin.close()
    except BaseException:  # cleaned up and passed on, cancellation included
        process.kill()
        raise
    finally:
        await process.wait()


async def calls(side: Side, socket: Path, in_flight: int, count: int) -> Round:
    process = await asyncio.create_subprocess_exec(
        "taskset", "-c", cores()[1], *side.client, socket, str(in_flight), str(count), stdout=PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate()
    except BaseException:  # cleaned up and passed on, cancellation included
        process.kill()
        raise
    seconds, *times = map(float, out.split())
    if process.returncode != 0 or len(times) != count:
        raise RuntimeError(f"the client of {side.name} failed")
    ordered = sorted(times)
    p99 = ordered[min(count - 1, count * 99 // 100)]
    return Round(count / seconds, statistics.median(ordered) / 1000, p99 / 1000)


def add(report: Report, what: str, rounds: Sequence[Round], peer: Sequence[Round] | None) -> None:
    """Three figures, beside Go talking to Go in the same run; the targets are for our server."""
    aimed_at = what.startswith("16 in flight") and what.endswith("to ours")
    figures: tuple[tuple[str, str, Better, float | None], ...] = (
        ("rate", "/s", "higher", RATE_TARGET if aimed_at else None),
        ("p50", "ms", "lower", None),
        ("p99", "ms", "lower", P99_TARGET_MS if aimed_at else None),
    )
    for name, unit, better, target in figures:
        report.add(
            Figure(
                f"ttRPC {what}, {name}",
                unit,
                tuple(getattr(one, name) for one in rounds),
                better,
                target,
                statistics.median(getattr(one, name) for one in peer) if peer else None,
                "Go to Go" if peer else "",
            )
        )


async def memory(report: Report, caller: Side, socket: Path) -> None:
    """What our server holds after many calls beyond what it held after a few."""
    async with serving(ours(), socket) as process:
        await calls(caller, socket, 16, FIRST_CALLS)
        few = resident_mib(process.pid)
        await calls(caller, socket, 16, ALL_CALLS - FIRST_CALLS)
        many = resident_mib(process.pid)
    title = "ttRPC server, resident memory after {:,} calls".format
    report.add(Figure(title(FIRST_CALLS), "MiB", (few,), "lower"))
    report.add(Figure(title(ALL_CALLS), "MiB", (many,), "lower"))
    report.add(Figure("ttRPC server, growth", "MiB", (many - few,), "lower", GROWTH_TARGET_MIB))


async def measure(report: Report) -> None:
    """All pairs at every number of calls in flight; rounds of the pairs take turns."""
    go = theirs()
    sides = [ours()] if go is None else [go, ours()]
    if go is None:
        print("  (no Go here: ours only)", flush=True)
    pairs = [(client, server) for client in sides for server in sides]
    with tempfile.TemporaryDirectory(prefix="cguest-bench-") as name:
        folder = Path(name)
        for in_flight in IN_FLIGHT:
            rounds: dict[tuple[str, str], list[Round]] = {}
            for _ in range(ROUNDS):
                for client, server in pairs:
                    socket = folder / server.name
                    async with serving(server, socket):
                        one = await calls(client, socket, in_flight, CALLS)
                    socket.unlink(missing_ok=True)
                    rounds.setdefault((client.name, server.name), []).append(one)
            peer = rounds.get(("Go", "Go"))
            for (client_name, server_name), done in rounds.items():
                what = f"{in_flight} in flight, {client_name} to {server_name}"
                add(report, what, done, None if done is peer else peer)
        await memory(report, sides[0], folder / "memory")
