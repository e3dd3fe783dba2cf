"""Serving an agent as a process of its own: sockets, readiness and an orderly end."""

from __future__ import annotations

import asyncio
from typing import Final

from agent.compose import open_agent
from agent.config import AgentConfig
from lifecycle import Readiness, Shutdown, UnixAddress, listen_unix
from tdx.initdata import Initdata
from ttrpc import Server

DRAIN_SECONDS: Final = 5.0  # ttrpc-rust waits as long for a connection


async def serve(
    config: AgentConfig, address: UnixAddress, initdata: Initdata | None, shutdown: Shutdown
) -> None:
    """Serve until ``shutdown``; the socket appears when everything else is ready."""
    readiness = Readiness()
    async with open_agent(config, initdata=initdata) as running:
        server = Server(running.tables)
        with await listen_unix(address) as listening:
            async with asyncio.TaskGroup() as group:
                background = group.create_task(running.background())
                group.create_task(server.serve(listening.sock))
                readiness.ready()
                await shutdown.wait()
                readiness.stopping()
                background.cancel()
                await server.drain(DRAIN_SECONDS)
