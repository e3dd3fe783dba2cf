"""A mock KBS of the newest generation with one secret, and a guest that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mocktee.kbs import KbsOptions, MockKbs
from mocktee.pki import MockPki
from tests.services.kbs_guest import Guest

PKI = MockPki.create()
SECRET = b"the secret of this test"
PATH = "/kbs/v0/resource/default/key/1"
HIDDEN = "Attestation error: RCAR handshake Attest failed"


@pytest.fixture
async def kbs(tmp_path: Path) -> AsyncIterator[MockKbs]:
    async with MockKbs.start(tmp_path, PKI, KbsOptions(tls=False)) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        yield kbs


@pytest.fixture
async def guest(kbs: MockKbs) -> AsyncIterator[Guest]:
    async with Guest(kbs.url, PKI) as guest:
        yield guest
