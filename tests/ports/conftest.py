"""What the conformance suites of this rung run on.

Always on a fake of the tests, and on the mounted mock TSM, one per module. In a TD, where the mock
refuses to start, name the kernel's own interfaces instead of it: ``TSM_REPORT_PATH``
(``/sys/kernel/config/tsm/report``), ``TDX_MEASUREMENTS_PATH``, ``TDX_GUEST_DEVICE``. The suites
extend RTMR2 and RTMR3 there, so evidence of that boot no longer replays.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from mocktee.pki import MockPki
from mocktee.tsm.process import TsmProcess

CONFIG_ID = bytes(range(100, 148))
KERNEL_REPORT_PATH = os.environ.get("TSM_REPORT_PATH")
KERNEL_MEASUREMENTS_PATH = os.environ.get("TDX_MEASUREMENTS_PATH")
KERNEL_GUEST_DEVICE = os.environ.get("TDX_GUEST_DEVICE")


def implementations(kernel_path: str | None, *ours: str) -> list[str]:
    """The fake, and either what ours names or the kernel."""
    return ["fake", *(ours if kernel_path is None else ("kernel",))]


@pytest.fixture(scope="session")
def mock_pki_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved mock authority."""
    folder = tmp_path_factory.mktemp("pki")
    MockPki.create().save(folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mock_tsm(
    mock_pki_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TsmProcess]:
    """The mount, in a process of its own, with a recognisable MRCONFIGID."""
    folder = tmp_path_factory.mktemp("tsm")
    async with TsmProcess.start(
        folder / "mount", mock_pki_dir, folder / "control", mrconfigid=CONFIG_ID
    ) as process:
        yield process


@pytest.fixture
def mock_entry(mock_tsm: TsmProcess) -> Iterator[Path]:
    """A fresh report entry, removed afterwards."""
    path = mock_tsm.report_root / f"test-{secrets.token_hex(4)}"
    os.mkdir(path)
    yield path
    if path.exists():
        os.rmdir(path)
