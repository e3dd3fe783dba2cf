"""The crate ttrpc, in the release that kata-agent locks, and our ttRPC over unix sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.conformance import TOO_LONG, AgainstOurServer, AgainstTheirServer
from tests.interop.peers import PATIENCE_S, PeerProgram
from tests.interop.toolchains import build_rust_peer
from ttrpc import Client, Code

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def peer() -> PeerProgram:
    return PeerProgram(build_rust_peer())


@pytest.fixture
async def their_socket(peer: PeerProgram, tmp_path: Path) -> AsyncIterator[Path]:
    async with peer.serving(tmp_path / "p"):
        yield tmp_path / "p"


@pytest.fixture
async def their_client(their_socket: Path) -> AsyncIterator[Client]:
    async with await Client.connect(str(their_socket), timeout_s=PATIENCE_S) as client:
        yield client


class TestRustClient(AgainstOurServer):
    too_long = (-1, f"ttrpc err: {TOO_LONG}")
    late = ((-1, "Receive packet timeout"), (Code.DEADLINE_EXCEEDED, "timeout"))
    gone = ((-1, "closed"), (Code.CANCELLED, "the call was cancelled"))


class TestRustServer(AgainstTheirServer):
    unknown_service = (Code.INVALID_ARGUMENT, "no.Such service does not exist")
    unknown_method = "NoSuch method"
    empty_status = True
    no_longer = ((Code.INVALID_ARGUMENT, "Stream is no longer active"),)
