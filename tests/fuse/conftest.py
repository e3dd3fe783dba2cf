"""Fixtures for tests on real mounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mocktee.oss import MockOss
from tests.fuse.mounting import MountProcess, mounted, serving


@pytest.fixture
async def oss(tmp_path: Path) -> AsyncIterator[MockOss]:
    """A running OSS server with an empty example bucket."""
    async with serving(tmp_path / "oss") as server:
        yield server


@pytest.fixture
async def mount(oss: MockOss, tmp_path: Path) -> AsyncIterator[MountProcess]:
    """The example bucket, mounted; nothing is cached in the kernel."""
    async with mounted(oss, tmp_path / "mnt") as process:
        yield process
    assert oss.open_uploads("examplebucket") == []
