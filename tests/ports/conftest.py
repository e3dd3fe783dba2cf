"""A mounted mock TSM for the suites of this rung, one per module."""

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
