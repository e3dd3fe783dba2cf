"""The agent as TEE ``sample`` with a device, on a machine without a TEE; tokens of a service."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from msgspec import structs

from agent.compose import open_agent
from agent.config import (
    AgentConfig,
    CocoAsConfig,
    KbsConfig,
    QuoteSourceName,
    TeeConfig,
    TokenConfigs,
)
from agent.devices import DeviceName
from agent.errors import TeeAbsentError
from cguestd.local_backends import LocalAttestation
from kbs import session_from_aa_json
from lifecycle import UnixAddress, listen_unix
from protos.stubs import AttestationAgentStub, AttestationStatusStub
from rest.strict import RuntimeData
from tests.services.older_kbs import ERAS, OlderKbs, serving
from tests.wire.kbs_sealing import make_token
from ttrpc import Client, Server, StatusError


@dataclass
class FakeService:
    """An attestation service: takes anything, remembers it."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[web.Response] = field(default_factory=list)
    life: float = 300.0

    async def attestation(self, request: web.Request) -> web.Response:
        if self.refusals:
            return self.refusals.pop()
        assert request.content_type == "application/json"
        self.seen.append(json.loads(await request.read()))
        token = make_token({"exp": time.time() + self.life, "n": len(self.seen)})
        return web.Response(text=token)


@pytest_asyncio.fixture
async def service() -> AsyncIterator[FakeService]:
    fake = FakeService()
    application = web.Application()
    application.router.add_post("/api/attestation", fake.attestation)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api"
        yield fake
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def kbs() -> AsyncIterator[OlderKbs]:
    async with serving(ERAS["0.4.0"]) as kbs:
        yield kbs


def config_at(folder: Path, kbs: OlderKbs, service_url: str | None = None) -> AgentConfig:
    return AgentConfig(
        socket=f"unix://{folder}/agent.sock",
        token_configs=TokenConfigs(
            kbs=KbsConfig(kbs.url, start_spread_seconds=0),
            coco_as=CocoAsConfig(service_url) if service_url else None,
        ),
        tee=TeeConfig(
            report_path=str(folder / "no/tsm/report"),
            measurements_path=str(folder / "no/measurements"),
            ccel_path=str(folder / "no/ccel"),
            attest_conf_path=str(folder / "no/tdx-attest.conf"),
            allow_sample=True,
            devices=(DeviceName.SAMPLE_DEVICE,),
        ),
    )


@asynccontextmanager
async def served(config: AgentConfig) -> AsyncIterator[Client]:
    address = UnixAddress.parse(config.socket)
    async with open_agent(config) as running, asyncio.TaskGroup() as group:
        with await listen_unix(address) as listening:
            task = group.create_task(Server(running.tables).serve(listening.sock))
            async with await Client.connect(address.path) as client:
                yield client
            task.cancel()


def shown(evidence: dict[str, str]) -> bytes:
    return base64.b64decode(evidence["report_data"], validate=True)


async def test_sample_and_its_device_attest_to_a_kbs(tmp_path: Path, kbs: OlderKbs) -> None:
    async with served(config_at(tmp_path, kbs)) as client:
        agent = AttestationAgentStub(client)
        assert (await agent.get_tee_type()).tee == "sample"
        assert list((await agent.get_additional_tees()).additional_tees) == ["sampledevice"]
        session = session_from_aa_json((await agent.get_token("kbs")).Token)
        assert session.token.reveal_text() in kbs.trusted
        # The server recomputed the digest over the text that came, device evidence included.
        assert list(json.loads(kbs.devices[0])) == ["sampledevice"]
        status = await AttestationStatusStub(client).get_status()
        assert (status.tee, status.quotes_taken, status.session) == ("sample", 0, "attested")


async def test_callers_get_evidence_of_both(tmp_path: Path, kbs: OlderKbs) -> None:
    async with served(config_at(tmp_path, kbs)) as client:
        agent = AttestationAgentStub(client)
        primary = json.loads((await agent.get_evidence(b"nonce")).Evidence)
        devices = json.loads((await agent.get_additional_evidence(b"nonce")).Evidence)
        assert shown(primary) == shown(devices["sampledevice"]) == b"nonce"
        with pytest.raises(StatusError, match=r"get evidence failed.*at most 64 bytes"):
            await agent.get_additional_evidence(bytes(65))


async def test_labels_are_for_callers_and_not_for_the_kbs(tmp_path: Path, kbs: OlderKbs) -> None:
    config = config_at(tmp_path, kbs)
    labelling = structs.replace(config, tee=structs.replace(config.tee, label_caller_data=True))
    async with served(labelling) as client:
        agent = AttestationAgentStub(client)
        primary = json.loads((await agent.get_evidence(b"nonce")).Evidence)
        text = b"confidential-guest caller evidence v1\0nonce"
        assert shown(primary) == hashlib.sha512(text).digest()
        # Who labelled already is labelled once, and cannot pass off anything else as labelled.
        once = hashlib.sha512(text).digest()
        origin = {"cguest-labelled-data": [base64.b64encode(b"nonce").decode()]}
        same = json.loads((await agent.get_evidence(once, metadata=origin)).Evidence)
        assert shown(same) == once
        lying = json.loads((await agent.get_evidence(b"digest", metadata=origin)).Evidence)
        assert shown(lying) == hashlib.sha512(text.replace(b"nonce", b"digest")).digest()
        await agent.get_token("kbs")
        assert kbs.attests == 1


async def test_sample_is_not_used_unless_allowed(tmp_path: Path, kbs: OlderKbs) -> None:
    config = config_at(tmp_path, kbs)
    strict = structs.replace(config, tee=structs.replace(config.tee, allow_sample=False))
    with pytest.raises(TeeAbsentError, match="ENOENT"):
        async with open_agent(strict):
            pytest.fail("opened")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"report_path": "/proc/version/report"}, "ENOTDIR"),
        ({"quote_source": QuoteSourceName.CONFIGFS}, "ENOENT"),
        ({"qgs_address": "vsock:2:4050"}, "no TDX guest device"),
    ],
    ids=["failing", "configured to be configfs", "configured to be a QGS"],
)
async def test_sample_is_not_used_for_a_tee_that_is_there_or_meant(
    tmp_path: Path, kbs: OlderKbs, changes: dict[str, Any], problem: str
) -> None:
    config = config_at(tmp_path, kbs)
    with pytest.raises(TeeAbsentError, match=problem):
        async with open_agent(structs.replace(config, tee=structs.replace(config.tee, **changes))):
            pytest.fail("opened")


async def test_service_tokens_cost_one_evidence_for_their_life(
    tmp_path: Path, kbs: OlderKbs, service: FakeService
) -> None:
    async with served(config_at(tmp_path, kbs, service.url)) as client:
        agent = AttestationAgentStub(client)
        replies = await asyncio.gather(*(agent.get_token("coco_as") for _ in range(10)))
        assert len({reply.Token for reply in replies}) == len(service.seen) == 1
        asked = service.seen[0]["verification_requests"][0]
        evidence = json.loads(base64.urlsafe_b64decode(asked["evidence"] + "=="))
        assert (asked["tee"], evidence) == ("sample", {"svn": "1", "report_data": ""})
        refused = {"cguest-refused-token": [hashlib.sha256(replies[0].Token).hexdigest()]}
        other = await agent.get_token("coco_as", metadata=refused)
        assert other.Token != replies[0].Token
        assert kbs.attests == 0


async def test_service_tokens_that_end_soon_are_made_anew(
    tmp_path: Path, kbs: OlderKbs, service: FakeService
) -> None:
    service.life = 10.0
    async with served(config_at(tmp_path, kbs, service.url)) as client:
        for _ in range(2):
            await AttestationAgentStub(client).get_token("coco_as")
        assert len(service.seen) == 2


async def test_a_service_that_refuses_is_named(
    tmp_path: Path, kbs: OlderKbs, service: FakeService
) -> None:
    service.refusals = [web.Response(status=400, text="bad evidence"), web.Response(status=503)]
    async with served(config_at(tmp_path, kbs, service.url)) as client:
        agent = AttestationAgentStub(client)
        # 503 is tried again, 400 is not.
        with pytest.raises(StatusError, match=r"attestation service: HTTP 400 'bad evidence'"):
            await agent.get_token("coco_as")
        assert service.refusals == []
        await agent.get_token("coco_as")


async def test_in_one_process_rest_gets_the_same(
    tmp_path: Path, kbs: OlderKbs, service: FakeService
) -> None:
    async with open_agent(config_at(tmp_path, kbs, service.url)) as running:
        local = LocalAttestation(running)
        token = await local.token("coco_as")
        assert token.matches(await running.tokens.token("coco_as"))
        assert await local.additional_tees() == ["sampledevice"]
        assert (
            json.loads(await local.additional_evidence(RuntimeData(b"x")))["sampledevice"]["svn"]
            == "2"
        )
        assert shown(json.loads(await local.evidence(RuntimeData(b"x")))) == b"x"
