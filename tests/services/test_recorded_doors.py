"""What receipts say of callers and subjects at the doors, told there and by no service."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.message import Message

from agent.older_doors import named_resource
from agent.service import failing_as
from cguestd.receipting import recorded_doors
from lifecycle import UnixAddress
from protos import attestation_agent_pb2 as aa
from protos import services
from protos.getresource_pb2 import GetResourceRequest, GetResourceResponse
from receipts import Access, Caller, LogSettings, examine_chain, open_log, read_directory
from serving.doors import Door, DoorAddress, GrpcDoor, LoopbackAddress, UnixDoor
from ttrpc import CallContext, Method, PeerCredentials, ServiceTable, StatusError

SOCKET = UnixAddress("/run/door.sock")
TTRPC, GRPC = UnixDoor(SOCKET), GrpcDoor(SOCKET)
PORT = GrpcDoor(LoopbackAddress("127.0.0.1", 50002))
PEER = PeerCredentials(7, 1000, 1000)
KIND = aa.GetTokenRequest(TokenType="kbs")


async def _resource(_request: GetResourceRequest, _context: CallContext) -> GetResourceResponse:
    return GetResourceResponse(Resource=b"content")


async def _token(_request: aa.GetTokenRequest, _context: CallContext) -> aa.GetTokenResponse:
    return aa.GetTokenResponse(Token=b"content")


TABLES = {
    GetResourceRequest: ServiceTable(
        services.GET_RESOURCE_V0_8,
        {"GetResource": Method(GetResourceRequest, GetResourceResponse, _resource)},
    ),
    aa.GetTokenRequest: ServiceTable(
        services.ATTESTATION_AGENT,
        {"GetToken": Method(aa.GetTokenRequest, aa.GetTokenResponse, _token)},
    ),
}


async def _receipt(
    folder: Path, address: DoorAddress, request: Message, peer: PeerCredentials | None
) -> Access:
    async with open_log(folder / "receipts", LogSettings()) as log:
        doors = recorded_doors({"door": Door(address, [TABLES[type(request)]])}, log, of_agent=True)
        (table,) = doors["door"].tables
        (method,) = table.methods.values()
        await method.handler(request, CallContext(None, {}, peer))
    receipts = examine_chain(read_directory(folder / "receipts")).receipts
    (access,) = [one.body for one in receipts if isinstance(one.body, Access)]
    return access


@pytest.mark.parametrize(
    ("address", "peer", "expected"),
    [
        pytest.param(TTRPC, PEER, Caller("ttrpc", 7, 1000), id="ttrpc"),
        pytest.param(GRPC, PEER, Caller("grpc", 7, 1000), id="grpc on a unix socket"),
        pytest.param(PORT, None, Caller("grpc"), id="grpc on a port"),
    ],
)
async def test_callers_are_named_by_the_door_they_came_through(
    tmp_path: Path, address: DoorAddress, peer: PeerCredentials | None, expected: Caller
) -> None:
    access = await _receipt(tmp_path, address, KIND, peer)
    assert access.caller == expected


@pytest.mark.parametrize(
    ("request_message", "expected"),
    [
        pytest.param(KIND, "token of type kbs", id="token"),
        pytest.param(
            GetResourceRequest(ResourcePath="/a/b/c", KbcName="cc_kbc", KbsUri="http://x"),
            "kbs:///a/b/c",
            id="path",
        ),
        pytest.param(GetResourceRequest(ResourcePath="kbs:///a/b/c"), "kbs:///a/b/c", id="uri"),
        pytest.param(GetResourceRequest(ResourcePath="hunter2"), "", id="no resource"),
        pytest.param(GetResourceRequest(ResourcePath="kbs:///hunter2"), "", id="no path"),
    ],
)
async def test_subjects_are_what_was_asked_for_and_nothing_else(
    tmp_path: Path, request_message: Message, expected: str
) -> None:
    access = await _receipt(tmp_path, TTRPC, request_message, PEER)
    assert access.subject.resource == expected


async def test_why_it_was_no_resource_is_told_without_what_was_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(request: GetResourceRequest, _context: CallContext) -> GetResourceResponse:
        with failing_as("failed"):
            named_resource(request.ResourcePath)
        return GetResourceResponse()

    table = ServiceTable(
        services.GET_RESOURCE_V0_8,
        {"GetResource": Method(GetResourceRequest, GetResourceResponse, refuse)},
    )
    folder = tmp_path / "receipts"
    async with open_log(folder, LogSettings()) as log:
        doors = recorded_doors({"door": Door(TTRPC, [table])}, log, of_agent=True)
        method = doors["door"].tables[0].methods["GetResource"]
        assert isinstance(method, Method)
        request = GetResourceRequest(ResourcePath="hunter2")
        with pytest.raises(StatusError, match="hunter2"):
            await method.handler(request, CallContext(None, {}, PEER))
        await log.flush()
    written = b"".join(read_directory(folder)).decode() + capsys.readouterr().err
    assert "no scheme" in written and "hunter2" not in written
