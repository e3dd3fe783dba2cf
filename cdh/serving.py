"""Serving a hub as a process of its own: sockets, readiness and an orderly end."""

from __future__ import annotations

import asyncio
from typing import Final

from cdh.compose import open_hub
from cdh.config import CdhConfig
from lifecycle import Readiness, Shutdown, UnixAddress, listen_unix
from ttrpc import Server

DRAIN_SECONDS: Final = 10.0


async def serve(config: CdhConfig, shutdown: Shutdown) -> None:
    """Serve until asked to stop; then finish calls, remove the mounts, and return."""
    readiness = Readiness()
    async with open_hub(config) as running, asyncio.TaskGroup() as tasks:
        background = tasks.create_task(running.background())
        server = Server(running.tables)
        with await listen_unix(UnixAddress.parse(config.socket)) as listener:
            tasks.create_task(server.serve(listener.sock))
            readiness.ready()
            await shutdown.wait()
            readiness.stopping()
            await server.drain(DRAIN_SECONDS)
        background.cancel()
