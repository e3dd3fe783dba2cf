"""One guest (harness and real daemon) for each module that tries the hook."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from demo.stage import Stage
from tests.guest.hook_ground import SECRET, Ground
from tests.guest.test_rootfs import need_debian


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with Stage.open(latency=0.0, log_level="debug") as opened:
        await opened.harness.put_resource("default/hooks/password", SECRET)
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def ground(stage: Stage, tmp_path: Path) -> Ground:
    for program, package in (("runc", "runc"), ("crun", "crun"), ("busybox", "busybox-static")):
        need_debian(program, package)
    return await Ground.prepare(stage, tmp_path)
