"""github.com/containerd/ttrpc and our ttRPC, both as server and as client, over unix sockets."""

from __future__ import annotations

import pytest

from tests.interop.conformance import TOO_LONG, AgainstOurServer, AgainstTheirServer
from tests.interop.peers import PeerProgram
from tests.interop.toolchains import GO_SOURCE, build_go_peer, check_go_source
from ttrpc import Code

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def peer() -> PeerProgram:
    return PeerProgram(build_go_peer())


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
