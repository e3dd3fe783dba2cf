"""ML-KEM TEE keys in a guest: one process fetches with them, none hands them to another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.config import AgentConfig, KbsConfig, TeeConfig, TokenConfigs
from cdh.config import CdhConfig, KbcSection
from cguestd.compose import Parts, open_services
from cguestd.config import CguestdConfig
from kbs import TeeKeyAlgorithm
from mocktee.kbs import KbsOptions, MockKbs
from mocktee.pki import MockPki
from protos.stubs import AttestationAgentStub
from tests.services.table_server import serve
from ttrpc import Client, StatusError

PKI = MockPki.create()
URI = "kbs:///default/key/1"
SECRET = b"not for quantum computers"


@dataclass(frozen=True)
class Guest:
    kbs: MockKbs
    parts: Parts


def config_at(folder: Path, url: str) -> CguestdConfig:
    key = TeeKeyAlgorithm.ML_KEM_768.value
    broker = KbsConfig(url, tee_key_algorithm=key, start_spread_seconds=0)
    tee = TeeConfig(
        report_path=str(folder / "no/tsm/report"),
        measurements_path=str(folder / "no/measurements"),
        ccel_path=str(folder / "no/ccel"),
        attest_conf_path=str(folder / "no/tdx-attest.conf"),
        allow_sample=True,
    )
    return CguestdConfig(
        agent=AgentConfig(token_configs=TokenConfigs(kbs=broker), tee=tee),
        cdh=CdhConfig(kbc=KbcSection(url=url), skip_sealed_secret_verification=True),
    )


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    async with MockKbs.start(tmp_path / "kbs", PKI, KbsOptions(tls=False)) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        kbs.set_resource_policy("package policy\ndefault allow = true\n")
        async with open_services(config_at(tmp_path, kbs.url), ["agent", "hub"]) as parts:
            yield Guest(kbs, parts)


async def test_one_process_fetches_with_it(guest: Guest) -> None:
    assert guest.parts.hub is not None
    assert guest.parts.agent is not None
    assert (await guest.parts.hub.hub.get_resource(URI)).reveal() == SECRET
    session = await guest.parts.agent.sessions.session()
    assert session.tee_key.public_jwk()["kty"] == "AKP"
    assert guest.kbs.counters.attest_accepted == 1


async def test_another_process_is_refused_by_name(guest: Guest, tmp_path: Path) -> None:
    assert guest.parts.agent is not None
    path = tmp_path / "agent.sock"
    async with serve(guest.parts.agent.tables, path), await Client.connect(str(path)) as client:
        with pytest.raises(StatusError) as caught:
            await AttestationAgentStub(client).get_token("kbs")
    assert "a key of kind ML-KEM-768+A192KW cannot be handed over" in caught.value.message
    assert "run cguestd" in caught.value.message
