"""One stage (harness and real daemon in child processes) for each module of this rung."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from demo.stage import Stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    """Harness without quote latency, daemon at debug level, over TLS."""
    async with Stage.open(latency=0.0, log_level="debug") as opened:
        yield opened
