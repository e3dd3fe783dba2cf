"""The REST server with its ttRPC backends: answers, the reference's failure texts, reconnection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lifecycle import UnixAddress
from protos import api_pb2
from protos import attestation_agent_pb2 as pb
from protos.tables import AttestationAgentServicer, attestation_agent_table, get_resource_table
from rest import service
from rest.app import open_rest
from rest.backends import Backends, TtrpcAttestation, TtrpcResources
from rest.config import RestConfig
from rest.strict import Compatibility
from tests.services.rest_browser import Browser
from tests.services.table_server import serve
from ttrpc import CallContext, Code, ServiceTable, StatusError

EVENT = b'{"domain":"d","operation":"o","content":"c"}'


class FakeServices(AttestationAgentServicer):
    """Data hub and attestation agent as a peer sees them, over ttRPC."""

    async def get_resource(
        self, request: api_pb2.GetResourceRequest, context: CallContext
    ) -> api_pb2.GetResourceResponse:
        if request.ResourcePath == "kbs:///a/b/denied":
            raise StatusError(Code.INTERNAL, "[CDH] [ERROR]: Get Resource failed: policy")
        return api_pb2.GetResourceResponse(Resource=request.ResourcePath.encode())

    async def get_token(
        self, request: pb.GetTokenRequest, context: CallContext
    ) -> pb.GetTokenResponse:
        return pb.GetTokenResponse(Token=b"token of " + request.TokenType.encode())

    async def get_evidence(
        self, request: pb.GetEvidenceRequest, context: CallContext
    ) -> pb.GetEvidenceResponse:
        return pb.GetEvidenceResponse(Evidence=b"E" + request.RuntimeData)

    async def get_additional_evidence(
        self, request: pb.GetAdditionalEvidenceRequest, context: CallContext
    ) -> pb.GetEvidenceResponse:
        return pb.GetEvidenceResponse(Evidence=b"A" + request.RuntimeData)

    async def extend_runtime_measurement(
        self, request: pb.ExtendRuntimeMeasurementRequest, context: CallContext
    ) -> pb.ExtendRuntimeMeasurementResponse:
        assert not request.HasField("RegisterIndex")
        return pb.ExtendRuntimeMeasurementResponse(Result=pb.NOT_ENABLED)

    async def get_tee_type(
        self, request: pb.GetTeeTypeRequest, context: CallContext
    ) -> pb.GetTeeTypeResponse:
        return pb.GetTeeTypeResponse(tee="tdx")

    async def get_additional_tees(
        self, request: pb.GetAdditionalTeesRequest, context: CallContext
    ) -> pb.GetAdditionalTeesResponse:
        return pb.GetAdditionalTeesResponse(additional_tees=["nvidia"])


@asynccontextmanager
async def peer(path: Path) -> AsyncIterator[None]:
    """Serve both services on one socket."""
    services = FakeServices()
    tables: list[ServiceTable] = [get_resource_table(services), attestation_agent_table(services)]
    async with serve(tables, path):
        yield


@asynccontextmanager
async def over_ttrpc(path: Path) -> AsyncIterator[Browser]:
    address = UnixAddress(str(path))
    resources, attestation = TtrpcResources(address), TtrpcAttestation(address)
    config = RestConfig(
        bind="127.0.0.1:0",
        features="all",
        evidence=Compatibility.REFERENCE,
        token=Compatibility.REFERENCE,
    )
    async with open_rest(config, Backends(resources, attestation)) as bound:
        yield Browser(bound)
    await resources.aclose()
    await attestation.aclose()


async def test_answers_come_over_ttrpc(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with peer(path), over_ttrpc(path) as browser:
        asks = {
            "/cdh/resource/a/b/c": b"kbs:///a/b/c",
            "/aa/token?token_type=kbs": b"token of kbs",
            "/aa/evidence?runtime_data=x": b"Ex",
            "/aa/additional-evidence?runtime_data=x": b"Ax",
        }
        for target, body in asks.items():
            assert (await browser.ask("GET", target))[2] == body
        assert b'"additional_tees":["nvidia"]' in (await browser.ask("GET", "/info"))[2]
        assert b"eventlog" in (await browser.ask("POST", "/aa/aael", EVENT))[2]
        status, _, body = await browser.ask("GET", "/cdh/resource/a/b/denied")
        assert status == 500
        assert body == (
            b"ttrpc request error: INTERNAL: [CDH] [ERROR]: Get Resource failed: policy"
        )


async def test_nobody_listens_and_then_somebody_does(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with over_ttrpc(path) as browser:
        status, _, body = await browser.ask("GET", "/cdh/resource/a/b/c")
        assert status == 500
        assert body.startswith(f"ttrpc connect to CDH addr: unix://{path} failed: ".encode())
        _, _, body = await browser.ask("GET", "/aa/token?token_type=kbs")
        assert body.startswith(b"ttrpc connect to Attestation Agent addr: ")
        async with peer(path):
            assert (await browser.ask("GET", "/cdh/resource/a/b/c"))[0] == 200


async def test_a_restarted_peer_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with over_ttrpc(path) as browser:
        for _ in range(3):
            async with peer(path):
                assert (await browser.ask("GET", "/cdh/resource/a/b/c"))[0] == 200


READY = "GET", "/readyz"


async def until(browser: Browser, status: int) -> None:
    """Ask until the answer is ``status``: what was found is kept for a second."""
    async with asyncio.timeout(20):
        while (await browser.ask(*READY))[0] != status:
            await asyncio.sleep(0.05)


async def test_readiness_follows_the_peer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with over_ttrpc(path) as browser:
        assert (await browser.ask(*READY))[0] == 503
        for _ in range(2):
            async with peer(path):
                await until(browser, 200)
            await until(browser, 503)


async def test_a_peer_that_never_answers_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PROBE_SECONDS", 0.2)
    path = tmp_path / "s"
    silent = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path)
    async with silent, over_ttrpc(path) as browser:
        assert (await browser.ask(*READY))[::2] == (503, b'{"status":"not ready"}')
