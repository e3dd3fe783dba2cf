"""The KBS client over real sockets: what it sends, and how it serves many with one session."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from kbs import (
    AttestationRefusedError,
    AttestedSession,
    JweError,
    KbsClient,
    KbsError,
    KbsRefusedError,
    PolicyDeniedError,
    ResourceFetcher,
    ResourceMissingError,
    ResourceTooLargeError,
    ResourceUri,
    SessionKeeper,
    TeeKeyAlgorithm,
    TokenRefusedError,
)
from kbs.payloads import RCAR_0_4_0, Challenge, HashAlgorithm
from tests.services.fake_kbs import (
    COOKIE,
    NONCE,
    FakeKbs,
    Fault,
    answer,
    problem_fault,
    running,
)
from tests.services.kbs_client_parts import ONCE, PATIENT, URI, Attester, Pauses


@pytest.fixture
async def kbs() -> AsyncIterator[FakeKbs]:
    async with running() as fake:
        yield fake


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(kbs: FakeKbs, pauses: Pauses) -> AsyncIterator[KbsClient]:
    async with KbsClient(
        kbs.url, limits=PATIENT, rng=random.Random(1), sleep=pauses.sleep
    ) as client:
        yield client


@pytest.fixture
async def hasty(kbs: FakeKbs) -> AsyncIterator[KbsClient]:
    """A client that tries once."""
    async with KbsClient(kbs.url, limits=PATIENT, retries=ONCE) as client:
        yield client


async def test_handshake_and_resource_on_the_wire(kbs: FakeKbs, client: KbsClient) -> None:
    attester = Attester()
    session = await client.handshake(attester)
    secret = await client.resource(URI, session)
    assert secret.reveal() == b"the secret"
    auth, attest, resource = kbs.seen
    assert kbs.targets() == [
        "POST /kbs/v0/auth",
        "POST /kbs/v0/attest",
        "GET /kbs/v0/resource/default/key/1",
    ]
    assert json.loads(auth.body)["version"] == "0.4.0"
    assert "Cookie" not in auth.headers
    assert attest.headers["Cookie"] == f"kbs-session-id={COOKIE}"
    assert attest.headers["Content-Type"] == "application/json"
    jwk = session.tee_key.public_jwk()
    digest = RCAR_0_4_0.runtime_digest(Challenge(NONCE, HashAlgorithm.SHA384), jwk)
    assert attester.digests == [digest]
    assert json.loads(attest.body)["tee-evidence"]["primary_evidence"] == {"quote": digest.hex()}
    assert resource.headers["Authorization"] == f"Bearer {session.token.reveal_text()}"
    assert "Cookie" not in resource.headers  # a leftover cookie would win over the token
    for seen in kbs.seen:
        assert seen.headers["User-Agent"].startswith("confidential-guest")
        assert seen.headers["Accept-Encoding"] == "identity"


async def test_every_handshake_has_a_key_of_its_own(client: KbsClient) -> None:
    first, second = [await client.handshake(Attester()) for _ in range(2)]
    assert first.tee_key.public_jwk() != second.tee_key.public_jwk()
    assert first.token_id != second.token_id


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
async def test_other_kinds_of_key(kbs: FakeKbs, algorithm: TeeKeyAlgorithm) -> None:
    async with KbsClient(kbs.url, key_algorithm=algorithm) as client:
        session = await client.handshake(Attester())
        assert (await client.resource(URI, session)).reveal() == b"the secret"


async def test_a_path_before_the_api_and_a_query_are_kept(kbs: FakeKbs) -> None:
    async with (
        KbsClient(kbs.url) as direct,
        KbsClient(f"{kbs.url}/behind/proxy/", retries=ONCE) as client,
    ):
        session = await direct.handshake(Attester())
        with pytest.raises(KbsError):
            await client.resource(ResourceUri.parse("kbs+x:///a%20b/c?d=%20e&f"), session)
    assert kbs.targets()[-1] == "GET /behind/proxy/kbs/v0/x/a%20b/c?d=%20e&f"


async def test_large_resources_up_to_the_limit(kbs: FakeKbs, client: KbsClient) -> None:
    session = await client.handshake(Attester())
    kbs.resources["default/key/1"] = bytes(PATIENT.resource_bytes)
    assert len(await client.resource(URI, session)) == PATIENT.resource_bytes
    for size in (PATIENT.resource_bytes + 1, 2 * PATIENT.resource_bytes):
        kbs.resources["default/key/1"] = bytes(size)
        with pytest.raises(ResourceTooLargeError, match="limit of 262144 bytes") as caught:
            await client.resource(URI, session)
        assert caught.value.limit_bytes == PATIENT.resource_bytes


REFUSALS = {
    "policy": (problem_fault(401, "PolicyDeny", "Access denied by policy"), PolicyDeniedError),
    "missing": (problem_fault(401, "PluginInternalError"), ResourceMissingError),
    "no plugin": (problem_fault(404, "PluginNotFound"), ResourceMissingError),
    "bad token": (problem_fault(401, "TokenVerifierError"), TokenRefusedError),
    "no token": (problem_fault(401, "TokenNotFound"), TokenRefusedError),
    "bare 401": (answer(401), KbsRefusedError),
    "bare 403": (answer(403, b"Forbidden"), KbsRefusedError),
    "bare 404": (answer(404, b"<html>"), KbsRefusedError),
    "bare 413": (answer(413), KbsRefusedError),
    "bare 500": (answer(500, b"oops"), KbsRefusedError),
    "bare 204": (answer(204), KbsRefusedError),
}


@pytest.mark.parametrize(("fault", "kind"), REFUSALS.values(), ids=REFUSALS)
async def test_refusals_name_resource_kbs_and_cause(
    kbs: FakeKbs, hasty: KbsClient, fault: Fault, kind: type[KbsRefusedError]
) -> None:
    session = await hasty.handshake(Attester())
    kbs.play("resource", fault)
    with pytest.raises(KbsRefusedError) as caught:
        await hasty.resource(URI, session)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"fetching kbs:///default/key/1 from {kbs.url}: refus") or (
        kind in {ResourceMissingError, TokenRefusedError}
    )
    assert "; hint: " in str(caught.value)


async def test_the_message_of_a_policy_refusal_in_full(kbs: FakeKbs, client: KbsClient) -> None:
    session = await client.handshake(Attester())
    kbs.denied.add("default/key/1")
    with pytest.raises(PolicyDeniedError) as caught:
        await client.resource(URI, session)
    assert str(caught.value).startswith(
        f"fetching kbs:///default/key/1 from {kbs.url}: refused by resource policy "
        "(KBS: PolicyDeny 'Access denied by policy'); hint: "
    )


async def test_refused_evidence_and_refused_version(kbs: FakeKbs, client: KbsClient) -> None:
    kbs.refuse_evidence = "Attestation error: RCAR handshake Attest failed"
    with pytest.raises(AttestationRefusedError, match=f"attesting to {kbs.url}") as caught:
        await client.handshake(Attester())
    assert caught.value.expected_version is None
    detail = "KBS Client Protocol Version Mismatch: expect =0.5.0 while the request is 0.4.0"
    kbs.play("auth", problem_fault(401, "AttestationError", detail))
    with pytest.raises(AttestationRefusedError, match=r"speaks protocol 0\.5\.0") as caught:
        await client.handshake(Attester())
    assert caught.value.expected_version == "0.5.0"
    assert len(kbs.tokens) == 0


async def test_a_hundred_secrets_cost_one_handshake(kbs: FakeKbs, client: KbsClient) -> None:
    attester = Attester()
    uris = [ResourceUri.parse(f"kbs:///default/key/{number}") for number in range(100)]
    for uri in uris:
        kbs.resources["/".join(uri.segments)] = str(uri).encode()
    keeper = SessionKeeper(lambda: client.handshake(attester))
    fetcher = ResourceFetcher(client, keeper)
    secrets = await asyncio.gather(*(fetcher.get(uri) for uri in uris + uris))
    assert [secret.reveal().decode() for secret in secrets] == [str(uri) for uri in uris + uris]
    assert len(attester.digests) == keeper.handshakes == 1
    assert len(kbs.seen) == 102


async def test_a_kbs_that_forgot_its_tokens_costs_one_handshake_more(
    kbs: FakeKbs, client: KbsClient
) -> None:
    attester = Attester()
    keeper = SessionKeeper(lambda: client.handshake(attester))
    fetcher = ResourceFetcher(client, keeper)
    await fetcher.get(URI)
    kbs.tokens.clear()  # a restart with another signing key
    secrets = await asyncio.gather(*(fetcher.get(URI) for _ in range(20)))
    assert {secret.reveal() for secret in secrets} == {b"the secret"}
    assert keeper.handshakes == 2


async def test_a_token_for_another_key_opens_nothing(kbs: FakeKbs, client: KbsClient) -> None:
    one, other = [await client.handshake(Attester()) for _ in range(2)]
    mixed = AttestedSession(one.token, other.tee_key, None)
    with pytest.raises(JweError):
        await client.resource(URI, mixed)


async def test_a_refused_uri_costs_no_request(kbs: FakeKbs, client: KbsClient) -> None:
    session = await client.handshake(Attester())
    with pytest.raises(KbsError, match="kbs:///signing/key/uri"):
        await client.resource(ResourceUri.parse("kbs://signing/key/uri"), session)
    assert len(kbs.seen) == 2


async def test_nothing_secret_is_logged_or_shown(
    kbs: FakeKbs, client: KbsClient, capsys: pytest.CaptureFixture[str]
) -> None:
    session = await client.handshake(Attester())
    await client.resource(URI, session)
    kbs.play("resource", answer(503), FakeKbs.cut)
    await client.resource(URI, session)
    kbs.tokens.clear()
    with pytest.raises(TokenRefusedError) as caught:
        await client.resource(URI, session)
    output = "".join(capsys.readouterr()) + repr(caught.value) + repr(session) + repr(client)
    assert "retrying" in output
    pem_line = session.tee_key.to_pem().reveal_text().splitlines()[1]
    for hidden in ("the secret", session.token.reveal_text(), pem_line, COOKIE):
        assert hidden not in output
