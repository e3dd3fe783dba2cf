"""``cguest call`` against real servers, over ttRPC and over gRPC."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cguest.__main__ import build_parser
from cguest.connection import CommandError, RefusedError
from cguest.interface import RequestTextError, fields_of, interface
from cguest.outcome import Outcome
from cguest.sockets import resolve
from lifecycle import UnixAddress, listen_unix
from protos import api_pb2, services, tables
from serving.doors import GrpcDoor, parse_door
from serving.grpc_tables import open_grpc
from ttrpc import CallContext, Code, Server, StatusError

GET = "api.GetResourceService/GetResource"
UNSEAL = "api.SealedSecretService/UnsealSecret"
RESOURCE = b"\x00\xff content"


class Hub:
    """Answers or refuses by what is asked for."""

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, context: CallContext
    ) -> api_pb2.GetResourceResponse:
        if request.ResourcePath == "denied":
            raise StatusError(Code.INTERNAL, "policy says no", refused=True)
        if request.ResourcePath == "absent":
            raise StatusError(Code.NOT_FOUND, "nothing there")
        return api_pb2.GetResourceResponse(Resource=RESOURCE)

    async def unseal_secret(
        self, request: api_pb2.UnsealSecretInput, context: CallContext
    ) -> api_pb2.UnsealSecretOutput:
        return api_pb2.UnsealSecretOutput(plaintext=request.secret[::-1])


@pytest_asyncio.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "hub.sock"
    served = (tables.get_resource_table(Hub()), tables.sealed_secret_table(Hub()))
    server = Server(served)
    with await listen_unix(UnixAddress(str(path))) as listening:
        task = asyncio.create_task(server.serve(listening.sock))
        yield path
        await server.drain(1.0)
        await task


@pytest_asyncio.fixture
async def grpc_hub(tmp_path: Path) -> AsyncIterator[str]:
    door = f"grpc+unix://{tmp_path}/grpc.sock"
    address = parse_door(door)
    assert isinstance(address, GrpcDoor)
    async with open_grpc([tables.get_resource_table(Hub())], address):
        yield door


async def called(hub: Path, *words: str) -> Outcome:
    args = build_parser().parse_args(["call", *words])
    outcome: Outcome = await args.run(args, resolve(None, None, f"unix://{hub}"))
    return outcome


async def test_a_reply_is_json_with_bytes_as_base64(hub: Path) -> None:
    outcome = await called(hub, GET, '{"ResourcePath":"kbs:///a/b/c"}')
    assert outcome.data == {"Resource": base64.b64encode(RESOURCE).decode()}
    assert json.loads(outcome.text or "") == outcome.data


async def test_a_field_is_taken_out_as_it_is(hub: Path) -> None:
    assert (await called(hub, "/" + GET, "{}", "--raw", "Resource")).raw == RESOURCE


async def test_request_and_content_come_from_files(hub: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xfe\x00abc")
    outcome = await called(hub, UNSEAL, "--set", f"secret=@{secret}", "--raw", "plaintext")
    assert outcome.raw == b"cba\x00\xfe"
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"secret": base64.b64encode(b"xyz").decode()}))
    assert (await called(hub, UNSEAL, f"@{request}", "--raw", "plaintext")).raw == b"zyx"


@pytest.mark.parametrize("over_grpc", [False, True], ids=["ttrpc", "grpc"])
async def test_errors_show_code_and_text(hub: Path, grpc_hub: str, over_grpc: bool) -> None:
    way = ("--grpc", grpc_hub) if over_grpc else ("--socket", f"unix://{hub}")
    with pytest.raises(CommandError, match=r"^code 5 NOT_FOUND: nothing there"):
        await called(hub, *way, GET, '{"ResourcePath":"absent"}')


@pytest.mark.parametrize("over_grpc", [False, True], ids=["ttrpc", "grpc"])
async def test_a_refusal_is_told_from_an_error(hub: Path, grpc_hub: str, over_grpc: bool) -> None:
    way = ("--grpc", grpc_hub) if over_grpc else ()
    with pytest.raises(RefusedError, match=r"^code 13 INTERNAL: policy says no"):
        await called(hub, *way, GET, '{"ResourcePath":"denied"}')


async def test_the_same_over_grpc(hub: Path, grpc_hub: str) -> None:
    assert (await called(hub, "--grpc", grpc_hub, GET, "--raw", "Resource")).raw == RESOURCE
    with pytest.raises(CommandError, match=r"^code 12 UNIMPLEMENTED: "):
        await called(hub, "--grpc", grpc_hub, UNSEAL)


async def test_nobody_there(hub: Path, tmp_path: Path) -> None:
    for way in (("--socket", f"unix://{tmp_path}/no"), ("--grpc", f"grpc+unix://{tmp_path}/no")):
        with pytest.raises(CommandError, match="No such file"):
            await called(hub, *way, GET)


async def test_a_request_that_does_not_fit_is_not_quoted(hub: Path) -> None:
    for text in ('{"ResourcePat":"hunter2"}', '{"ResourcePath":["hunter2"]}', "hunter2", "[1]"):
        with pytest.raises(RequestTextError, match=r"fields: ResourcePath \(string\)") as caught:
            await called(hub, GET, text)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(RequestTextError, match="only ResourcePath"):
        await called(hub, GET, "--set", f"Path=@{__file__}")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "METHOD is missing"),
        (("api.GetResourceService/Nope",), "see cguest call --list"),
        ((UNSEAL, '{"secret":"aHVudGVyMg=="}'), "may hold keys: give @FILE or -"),
        (("api.SecureMountService/SecureMount", "{}"), "may hold keys"),
        ((UNSEAL, "--set", "secret=literal"), "expected FIELD=@FILE or FIELD=-"),
        ((GET, "--raw", "plaintext"), "the reply of GetResource has no field"),
        ((GET, "--grpc", "unix:///p"), "neither HOST:PORT nor"),
        ((GET, "--socket", "relative.sock"), "not a unix socket address"),
        ((GET, "--socket", "unix:///p", "--grpc", "[::1]:1"), "not allowed with"),
    ],
)
async def test_wrong_command_lines_exit_2(
    hub: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        await called(hub, *words)
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err


async def test_the_list_is_everything_declared(hub: Path) -> None:
    outcome = await called(hub, "--list")
    assert set(outcome.data) == set(interface())
    declared = {name.partition("/")[0] for name in interface()}
    names = (getattr(services, name) for name in vars(services) if name.isupper())
    assert declared == set(names)
    assert "takes map<string, string> options" not in (outcome.text or "")
    assert "map<string, string> options, repeated string flags" in (outcome.text or "")
    extend = interface()["attestation_agent.AttestationAgentService/ExtendRuntimeMeasurement"]
    assert fields_of(extend.request)["RegisterIndex"] == "optional uint64"
    assert fields_of(extend.response) == {"Result": "RuntimeMeasurementResult"}
