"""The KBS client against the mock KBS, which judges quotes, bindings and policy in earnest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from kbs import (
    AttestationRefusedError,
    JweError,
    KbsClient,
    KbsError,
    KbsLimits,
    KbsProtocolError,
    KbsRefusedError,
    KbsTls,
    PolicyDeniedError,
    ResourceFetcher,
    ResourceMissingError,
    ResourceTooLargeError,
    ResourceUri,
    RetryPolicy,
    SessionKeeper,
    TeeKeyAlgorithm,
    TokenRefusedError,
)
from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.faults import (
    Corrupt,
    Cut,
    ExpiredToken,
    Fault,
    NeverEndingBody,
    Redirect,
    Refuse,
    Status,
    Throttle,
    WrongSize,
)
from mocktee.pki import MockPki
from mocktee.td import TdState
from tests.services.kbs_guest import tdx_evidence

PKI = MockPki.create()
SECRET = b"the secret of this test"
URI = ResourceUri.parse("kbs:///default/key/1")
LIMITS = KbsLimits(request_seconds=20.0)


class TdxAttester:
    """Makes quotes of a mock trust domain; a test may spoil the binding."""

    def __init__(self, td: TdState, pki: MockPki = PKI) -> None:
        self.td = td
        self.pki = pki
        self.quotes = 0
        self.bind_instead: bytes | None = None

    async def tee(self) -> str:
        return "tdx"

    async def device_evidence(self, device_digest: bytes) -> str:
        return ""

    async def evidence(self, runtime_digest: bytes) -> Mapping[str, object]:
        self.quotes += 1
        bound = self.bind_instead or runtime_digest
        return tdx_evidence(self.pki, self.td, bound.ljust(64, b"\0"))


class Clock:
    """Wall time that a test can move, for KBS and keeper alike."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def kbs(tmp_path: Path, clock: Clock) -> AsyncIterator[MockKbs]:
    async with MockKbs.start(tmp_path, PKI, KbsOptions(clock=clock)) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        yield kbs


@pytest.fixture
async def client(kbs: MockKbs) -> AsyncIterator[KbsClient]:
    assert kbs.ca_file is not None
    tls = KbsTls(kbs.ca_file.read_text(), system_roots=False)
    retries = RetryPolicy(attempts=3, first_seconds=0.0)
    async with KbsClient(kbs.url, tls, limits=LIMITS, retries=retries) as client:
        yield client


@pytest.fixture
def attester() -> TdxAttester:
    return TdxAttester(TdState.booted())


async def test_attested_and_served_over_tls(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester
) -> None:
    session = await client.handshake(attester)
    assert session.expires_at is not None
    assert (await client.resource(URI, session)).reveal() == SECRET
    assert kbs.counters.attest_accepted == kbs.counters.quotes_seen == 1


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
async def test_every_kind_of_key(
    kbs: MockKbs, attester: TdxAttester, algorithm: TeeKeyAlgorithm
) -> None:
    assert kbs.ca_file is not None
    async with KbsClient(
        kbs.url, KbsTls(kbs.ca_file.read_text()), key_algorithm=algorithm, limits=LIMITS
    ) as client:
        session = await client.handshake(attester)
        assert (await client.resource(URI, session)).reveal() == SECRET


async def test_ten_secrets_cost_one_quote(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester
) -> None:
    uris = [ResourceUri.parse(f"kbs:///default/key/{number}") for number in range(10)]
    for uri in uris:
        kbs.put_resource("/".join(uri.segments), str(uri).encode())
    keeper = SessionKeeper(lambda: client.handshake(attester))
    fetcher = ResourceFetcher(client, keeper)
    secrets = await asyncio.gather(*(fetcher.get(uri) for uri in uris))
    assert [secret.reveal_text() for secret in secrets] == [str(uri) for uri in uris]
    assert attester.quotes == keeper.handshakes == kbs.counters.quotes_seen == 1


async def test_a_quote_for_another_binding_is_refused(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester
) -> None:
    attester.bind_instead = bytes(48).replace(b"\0", b"\x01")
    with pytest.raises(AttestationRefusedError) as caught:
        await client.handshake(attester)
    assert "report" in caught.value.detail.lower()
    assert kbs.counters.attest_refused == 1
    assert attester.quotes == 1


async def test_a_quote_under_another_root_is_refused(client: KbsClient) -> None:
    stranger = TdxAttester(TdState.booted(), MockPki.create())
    with pytest.raises(AttestationRefusedError, match="attestation refused"):
        await client.handshake(stranger)


async def test_a_tampered_register_is_refused_with_the_reason(
    client: KbsClient, attester: TdxAttester
) -> None:
    attester.td.tamper("rtmr2", bytes(48).replace(b"\0", b"\x07"))
    with pytest.raises(AttestationRefusedError) as caught:
        await client.handshake(attester)
    assert "rtmr2" in str(caught.value).lower()


async def test_policy_missing_and_malformed(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester
) -> None:
    session = await client.handshake(attester)
    with pytest.raises(ResourceMissingError, match="missing, or refused"):
        await client.resource(ResourceUri.parse("kbs:///default/key/none"), session)
    kbs.set_resource_policy(shipped_policy("deny_all"))
    with pytest.raises(PolicyDeniedError, match="refused by resource policy"):
        await client.resource(URI, session)
    with pytest.raises(KbsError, match="repository/type/tag"):
        await client.resource(ResourceUri.parse("kbs:///a/b"), session)
    with pytest.raises(ResourceMissingError):
        await client.resource(ResourceUri.parse("kbs+nosuch:///a/b/c"), session)


async def test_an_ended_token_costs_one_more_quote_and_no_error(
    client: KbsClient, attester: TdxAttester, clock: Clock
) -> None:
    keeper = SessionKeeper(lambda: client.handshake(attester))  # its clock stands behind
    fetcher = ResourceFetcher(client, keeper)
    await fetcher.get(URI)
    clock.ahead = 3600.0
    contents = await asyncio.gather(*(fetcher.get(URI) for _ in range(5)))
    assert {content.reveal() for content in contents} == {SECRET}
    assert attester.quotes == 2


async def test_a_token_issued_expired_is_refused_after_one_renewal(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester
) -> None:
    kbs.faults.add(ExpiredToken(), count=None)
    keeper = SessionKeeper(lambda: client.handshake(attester))
    with pytest.raises(TokenRefusedError):
        await ResourceFetcher(client, keeper).get(URI)
    assert attester.quotes == 2


RESOURCE_FAULTS: dict[str, tuple[Fault, type[KbsError]]] = {
    "corrupt": (Corrupt(), JweError),
    "short iv": (WrongSize("iv"), JweError),
    "short tag": (WrongSize("tag"), JweError),
    "short key": (WrongSize("encrypted_key"), JweError),
    "oversize": (WrongSize("body"), ResourceTooLargeError),
    "endless": (NeverEndingBody(), ResourceTooLargeError),
    "redirect": (Redirect(), KbsProtocolError),
    "policy": (Refuse(401, "PolicyDeny", "no"), PolicyDeniedError),
    "403": (Status(403), KbsRefusedError),
    "404": (Status(404), KbsRefusedError),
    "413": (Status(413), KbsRefusedError),
}


@pytest.mark.parametrize(("fault", "kind"), RESOURCE_FAULTS.values(), ids=RESOURCE_FAULTS)
async def test_faults_on_the_resource(
    kbs: MockKbs,
    client: KbsClient,
    attester: TdxAttester,
    fault: Fault,
    kind: type[KbsError],
) -> None:
    session = await client.handshake(attester)
    kbs.faults.add(fault, path="/kbs/v0/resource")
    with pytest.raises(kind, match="fetching kbs:///default/key/1 from https://"):
        await client.resource(URI, session)
    assert (await client.resource(URI, session)).reveal() == SECRET


@pytest.mark.parametrize(
    "fault", [Status(500), Status(503), Throttle(0), Cut()], ids=["500", "503", "429", "cut"]
)
@pytest.mark.parametrize("path", ["/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource"])
async def test_passing_faults_cost_no_quote(
    kbs: MockKbs, client: KbsClient, attester: TdxAttester, path: str, fault: Fault
) -> None:
    kbs.faults.add(fault, path=path)
    session = await client.handshake(attester)
    assert (await client.resource(URI, session)).reveal() == SECRET
    assert attester.quotes == 1
    assert kbs.counters.faults_played == 1
