"""One stage (harness and real daemon) for the tests of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from demo.stage import Stage


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """Harness without quote latency, daemon at debug level, over TLS."""
    async with Stage.open(latency=0.0, log_level="debug") as opened:
        yield opened
