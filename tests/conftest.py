"""Fixtures shared by all rungs of the test ladder."""

from __future__ import annotations

from pathlib import Path

import pytest

from secrecy.journal import configure_logging

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_vectors() -> Path:
    """The folder of recorded data beside the checkout; the one allowed reason to skip a test."""
    folder = ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        pytest.skip("recorded vectors are not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def debug_logs() -> None:
    """Tests run at debug level, so that every log call is executed and captured."""
    configure_logging("debug")
