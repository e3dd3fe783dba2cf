"""The crate ttrpc, in the release that kata-agent locks, and our ttRPC over unix sockets."""

from __future__ import annotations

import pytest

from tests.interop.conformance import TOO_LONG, AgainstOurServer, AgainstTheirServer
from tests.interop.peers import PeerProgram
from tests.interop.toolchains import build_rust_peer
from ttrpc import Code

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def peer() -> PeerProgram:
    return PeerProgram(build_rust_peer())


class TestRustClient(AgainstOurServer):
    too_long = (-1, f"ttrpc err: {TOO_LONG}")
    late = ((-1, "Receive packet timeout"), (Code.DEADLINE_EXCEEDED, "timeout"))
    gone = ((-1, "closed"), (Code.CANCELLED, "the call was cancelled"))


class TestRustServer(AgainstTheirServer):
    unknown_service = (Code.INVALID_ARGUMENT, "no.Such service does not exist")
    unknown_method = "NoSuch method"
    empty_status = True
