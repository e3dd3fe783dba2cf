"""The client against the mock KBS as each generation of servers, TEEs ``tdx`` and ``sample``.

The mock shares no code with the client and verifies what it is sent: digest, key, quote and token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.attestation import AttestationAgent, MeasurementSettings
from agent.devices import DeviceName, open_devices
from agent.devices.sample_device import SampleDevice
from agent.kbs_evidence import AgentEvidence
from agent.sample import SampleAttester
from kbs import (
    AttestationRefusedError,
    EvidenceSource,
    KbsClient,
    KbsRefusedError,
    PolicyDeniedError,
    ProtocolVersion,
    ResourceFetcher,
    ResourceMissingError,
    ResourceUri,
    SessionKeeper,
    TeeKeyAlgorithm,
    TeeKeyError,
    TokenRefusedError,
    session_from_aa_json,
    session_to_aa_json,
)
from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.signer import SignerIdentity
from mocktee.pki import MockPki
from mocktee.td import TdState
from tests.services.kbs_client_parts import ONCE, PATIENT, URI
from tests.services.test_kbs_client_on_mock import TdxAttester
from tests.wire.kbs_sealing import unb64u

PKI = MockPki.create()
SECRET = b"the secret of every era"
MISSING = ResourceUri.parse("kbs:///default/key/none")
# The version that is found, and the quotes that finding it takes.
ERAS = {
    "v0.8": ("0.1.0-early", 2),
    "v0.9": ("0.1.0-late", 1),
    "v0.10": ("0.1.1", 1),
    "v0.11": ("0.1.1", 1),
    "v0.13": ("0.2.0", 1),
    "head": ("0.4.0", 1),
}


def sample(*devices: DeviceName) -> AgentEvidence:
    """The agent's own attester of TEE ``sample``."""
    no_events = MeasurementSettings(enabled=False, default_pcr=17, writer=None)
    agent = AttestationAgent(SampleAttester(), no_events, devices=open_devices(devices))
    return AgentEvidence(agent)


@asynccontextmanager
async def serving(folder: Path, era: str, **options: Any) -> AsyncIterator[MockKbs]:
    settings = KbsOptions(tls=False, era=era, verbose_refusals=False, **options)
    async with MockKbs.start(folder, PKI, settings) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        kbs.set_resource_policy(shipped_policy("allow_every_path"))
        yield kbs


def client_of(kbs: MockKbs, **options: Any) -> KbsClient:
    return KbsClient(kbs.url, limits=PATIENT, retries=ONCE, **options)


@pytest.mark.parametrize("era", ERAS)
async def test_every_generation_is_found_attested_to_and_read(tmp_path: Path, era: str) -> None:
    version, quotes = ERAS[era]
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        attester = TdxAttester(TdState.booted(), PKI)
        sources: tuple[EvidenceSource, ...] = (attester, sample())
        for source in sources:
            session = await client.handshake(source)
            assert client.protocol_version == version
            assert (await client.resource(URI, session)).reveal() == SECRET
            assert session.expires_at is not None  # EAR and CoCo simple tokens alike
        assert attester.quotes == quotes


@pytest.mark.parametrize("era", ERAS)
async def test_a_hub_with_the_session_as_json_reads_every_generation(
    tmp_path: Path, era: str
) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        session = await client.handshake(sample())
        async with client_of(kbs) as hub:
            borrowed = session_from_aa_json(session_to_aa_json(session).reveal())
            assert (await hub.resource(URI, borrowed)).reveal() == SECRET


@pytest.mark.parametrize("era", ERAS)
async def test_a_missing_resource_costs_no_second_handshake(tmp_path: Path, era: str) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        keeper = SessionKeeper(lambda: client.handshake(sample()))
        fetcher = ResourceFetcher(client, keeper)
        with pytest.raises(ResourceMissingError):
            await fetcher.get(MISSING)
        assert (await fetcher.get(URI)).reveal() == SECRET
        assert keeper.handshakes == 1


@pytest.mark.parametrize("era", ["v0.10", "v0.11", "v0.13", "head"])
async def test_a_denial_costs_no_second_handshake(tmp_path: Path, era: str) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        kbs.set_resource_policy("package policy\ndefault allow = false\n")
        keeper = SessionKeeper(lambda: client.handshake(sample()))
        with pytest.raises(PolicyDeniedError):
            await ResourceFetcher(client, keeper).get(URI)
        assert keeper.handshakes == 1


@pytest.mark.parametrize("era", ERAS)
async def test_evidence_for_another_challenge_is_refused(tmp_path: Path, era: str) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        attester = TdxAttester(TdState.booted(), PKI)
        attester.bind_instead = bytes(48)
        with pytest.raises(AttestationRefusedError):
            await client.handshake(attester)
        assert attester.quotes == (2 if ERAS[era][0].startswith("0.1.0") else 1)


@pytest.mark.parametrize("era", ["v0.13", "head"])
@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
async def test_every_kind_of_key(tmp_path: Path, era: str, algorithm: TeeKeyAlgorithm) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs, key_algorithm=algorithm) as client:
        if algorithm is TeeKeyAlgorithm.ML_KEM_768 and era == "v0.13":
            with pytest.raises(TeeKeyError, match=r"before 0\.4\.0 knows no"):
                await client.handshake(sample())
            return
        session = await client.handshake(sample())
        assert (await client.resource(URI, session)).reveal() == SECRET


async def test_the_2023_chart_configured(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "v0.8") as kbs,
        client_of(kbs, protocol_version=ProtocolVersion.V0_1_0_EARLY) as client,
    ):
        attester = TdxAttester(TdState.booted(), PKI)
        session = await client.handshake(attester)
        assert (await client.resource(URI, session)).reveal() == SECRET
        assert attester.quotes == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_sample_device_travels_where_there_is_a_place_for_it(
    tmp_path: Path, era: str
) -> None:
    async with serving(tmp_path, era) as kbs, client_of(kbs) as client:
        session = await client.handshake(sample(DeviceName.SAMPLE_DEVICE))
        assert (await client.resource(URI, session)).reveal() == SECRET


class TdxWithDevice(TdxAttester):
    """A trust domain with a device beside it."""

    async def device_evidence(self, device_digest: bytes) -> str:
        device = await SampleDevice().evidence(device_digest)
        return f'{{"sampledevice":{device.decode()}}}'


async def test_a_quote_covers_the_device_evidence(tmp_path: Path) -> None:
    async with serving(tmp_path, "head") as kbs, client_of(kbs) as client:
        attester = TdxWithDevice(TdState.booted(), PKI)
        session = await client.handshake(attester)
        assert (await client.resource(URI, session)).reveal() == SECRET
        assert b'"sampledevice"' in unb64u(session.token.reveal_text().split(".")[1])


async def test_passport_from_one_kbs_to_another(tmp_path: Path) -> None:
    identity = SignerIdentity.create()
    async with (
        serving(tmp_path / "1", "head", identity=identity) as first,
        serving(tmp_path / "2", "head", trusted_certificates=identity.chain[-1:]) as second,
        serving(tmp_path / "3", "head") as stranger,
        client_of(first) as attesting,
        client_of(second) as fetching,
        client_of(stranger) as refusing,
    ):
        keeper = SessionKeeper(lambda: attesting.handshake(sample()))
        content = await ResourceFetcher(fetching, keeper).get(URI)
        assert content.reveal() == SECRET
        assert (first.counters.attest_accepted, second.counters.auth) == (1, 0)
        # Renewed once at KBS 1, which does not help at one that does not know its signer.
        with pytest.raises(TokenRefusedError):
            await ResourceFetcher(refusing, keeper).get(URI)
        assert first.counters.attest_accepted == 2


async def test_a_configured_version_is_not_lowered(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "v0.13") as kbs,
        client_of(
            kbs,
            protocol_version=ProtocolVersion.V0_4_0,
        ) as client,
    ):
        with pytest.raises(KbsRefusedError, match=r"speaks protocol 0\.2\.0, this guest 0\.4\.0"):
            await client.handshake(sample())
