"""github.com/containerd/ttrpc and our ttRPC, both as server and as client, over unix sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.conformance import TOO_LONG, AgainstOurServer, AgainstTheirServer
from tests.interop.peers import PATIENCE_S, PeerProgram
from tests.interop.toolchains import GO_SOURCE, build_go_peer, check_go_source
from ttrpc import Client, Code

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def peer() -> PeerProgram:
    return PeerProgram(build_go_peer())


@pytest.fixture
async def their_socket(peer: PeerProgram, tmp_path: Path) -> AsyncIterator[Path]:
    async with peer.serving(tmp_path / "p"):
        yield tmp_path / "p"


@pytest.fixture
async def their_client(their_socket: Path) -> AsyncIterator[Client]:
    async with await Client.connect(str(their_socket), timeout_s=PATIENCE_S) as client:
        yield client


class TestGoClient(AgainstOurServer):
    too_long = (Code.RESOURCE_EXHAUSTED, TOO_LONG)
    late = ((-1, "context deadline exceeded"), (Code.DEADLINE_EXCEEDED, "timeout"))
    gone = ((-1, "ttrpc: closed"), (Code.CANCELLED, "the call was cancelled"))


class TestGoServer(AgainstTheirServer):
    unknown_service = (Code.UNIMPLEMENTED, "service no.Such")
    unknown_method = "method NoSuch"
    empty_status = False


def test_the_go_source_is_formatted_and_vetted(peer: PeerProgram) -> None:
    check_go_source(GO_SOURCE, peer.path.parent)
