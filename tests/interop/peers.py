"""A built peer as processes: a server on a socket, a client that performs a script."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from tests.interop.peer_pb2 import Call, Note, Outcome, Outcomes, Pair, Script

PATIENCE_S = 60.0  # a bound on hanging, never on speed
PEER = "interop.Peer"


def call(
    service: str,
    method: str,
    request: Message,
    *,
    timeout_ms: int = 0,
    metadata: Mapping[str, Sequence[str]] | None = None,
) -> Call:
    """One step of a script."""
    pairs = [Pair(key=key, value=value) for key, values in (metadata or {}).items()
             for value in values]  # fmt: skip
    return Call(
        service=service, method=method, request=request.SerializeToString(),
        timeout_ms=timeout_ms, metadata=pairs,
    )  # fmt: skip


def notes(outcome: Outcome) -> list[Note]:
    return [Note.FromString(reply) for reply in outcome.replies]


@dataclass(frozen=True, slots=True)
class PeerProgram:
    """What the programs of both languages have in common: their command line."""

    path: Path

    @asynccontextmanager
    async def serving(self, socket: Path) -> AsyncIterator[Process]:
        """The program as a server; killed at the end if it has not gone before."""
        process = await asyncio.create_subprocess_exec(
            self.path, "server", socket, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            yield process
        finally:
            await end(process)

    @asynccontextmanager
    async def started(self, socket: Path, scenario: str, script: Script) -> AsyncIterator[Process]:
        """The program as a client that has its script; killed at the end if it still runs."""
        process = await asyncio.create_subprocess_exec(
            self.path, "client", socket, scenario, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            assert process.stdin is not None
            process.stdin.write(script.SerializeToString())
            process.stdin.close()
            yield process
        finally:
            await end(process)

    async def perform(self, socket: Path, scenario: str, script: Script) -> list[Outcome]:
        """Run the client to its end."""
        async with self.started(socket, scenario, script) as process:
            return await outcomes_of(process)

    async def calls(self, socket: Path, *calls: Call, at_once: bool = False) -> list[Outcome]:
        """All calls over one connection, one after the other or all at the same time."""
        return await self.perform(socket, "at-once" if at_once else "calls", Script(calls=calls))

    async def stream(self, socket: Path, scenario: str, *sent: Note) -> Outcome:
        (outcome,) = await self.perform(socket, scenario, Script(notes=sent))
        return outcome


async def outcomes_of(process: Process) -> list[Outcome]:
    """Wait for a client's end and read what it wrote."""
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(PATIENCE_S):
        out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
        await process.wait()
    assert process.returncode == 0, err[-2000:].decode(errors="replace")
    return list(Outcomes.FromString(out).outcomes)


async def end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    # Its pipes are read to their end, so that no transport outlives the loop.
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            await pipe.read()
