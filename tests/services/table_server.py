"""Service tables behind a ttRPC server on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from lifecycle import UnixAddress, listen_unix
from ttrpc import Server, ServiceTable


@asynccontextmanager
async def serve(tables: Sequence[ServiceTable], path: Path) -> AsyncIterator[None]:
    """Answer until the end, which cancels what is under way."""
    server = Server(tables)
    with await listen_unix(UnixAddress(str(path))) as listener:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(listener.sock))
            try:
                yield
            finally:
                serving.cancel()
