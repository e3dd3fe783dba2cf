"""The mock KBS as a guest meets it: challenge, versions, sessions, the accepted way."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from tests.services import kbs_pair
from tests.services.kbs_guest import Guest, TeeKey, jwk_of, report_data, unb64u
from tests.services.kbs_pair import HIDDEN, PATH, PKI, SECRET

kbs = kbs_pair.kbs
guest = kbs_pair.guest


class Clock:
    """Wall time that a test can move."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def test_challenge_has_the_documented_form(guest: Guest) -> None:
    answer = await guest.auth()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    challenge = answer.json()
    assert list(challenge) == ["nonce", "extra-params"]
    assert challenge["extra-params"] == ""
    assert len(base64.b64decode(challenge["nonce"], validate=True)) == 32
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.partition("=")[0] == "kbs-session-id"
    assert len(bytes.fromhex(name.partition("=")[2])) == 16
    assert [attribute.partition("=")[0] for attribute in attributes] == ["Expires"]


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
async def test_a_good_guest_gets_its_secret(tmp_path: Path, tls: bool) -> None:
    async with (
        MockKbs.start(tmp_path, PKI, KbsOptions(tls=tls)) as kbs,
        Guest(kbs.url, PKI, ca=str(kbs.ca_file) if tls else None) as guest,
    ):
        kbs.put_resource("default/key/1", SECRET)
        await guest.handshake()
        answer = await guest.call("GET", PATH)
        assert answer.headers["Content-Type"] == "application/json"
        assert guest.open(answer) == SECRET
        assert kbs.counters.to_json()["handshakes"] == {
            "auth": 1,
            "auth_refused": 0,
            "attest_accepted": 1,
            "attest_repeated": 0,
            "attest_refused": 0,
        }
        assert (kbs.counters.quotes_seen, kbs.counters.resources_served) == (1, 1)


@pytest.mark.parametrize(
    ("make_key", "header"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), ["alg", "enc", "epk"]),
        (lambda: ec.generate_private_key(ec.SECP521R1()), ["alg", "enc", "epk"]),
        (lambda: rsa.generate_private_key(65537, 2048), ["alg", "enc"]),
    ],
    ids=["P-256", "P-521", "RSA-OAEP-256"],
)
async def test_every_kind_of_tee_key(
    guest: Guest, make_key: Callable[[], TeeKey], header: list[str]
) -> None:
    guest.key = make_key()
    await guest.handshake()
    answer = await guest.call("GET", PATH)
    assert guest.open(answer) == SECRET
    text = unb64u(answer.json()["protected"]).decode()
    assert list(json.loads(text)) == header
    assert text == json.dumps(json.loads(text), separators=(",", ":"))


async def test_a_refused_session_can_try_again_with_its_nonce(guest: Guest) -> None:
    await guest.auth()
    assert (await guest.attest(report_data=bytes(64))).status == 401
    assert (await guest.attest()).status == 200


async def test_attested_session_gets_its_old_token_whatever_it_sends(
    kbs: MockKbs, guest: Guest
) -> None:
    token = await guest.handshake()
    answer = await guest.attest(report_data=bytes(64))
    assert answer.json() == {"token": token}
    assert answer.headers["Set-Cookie"].startswith(f"kbs-session-id={guest.cookie}; Expires=")
    assert (kbs.counters.attest_repeated, kbs.counters.quotes_seen) == (1, 1)


async def test_terse_refusals_are_trustees(tmp_path: Path) -> None:
    options = KbsOptions(tls=False, verbose_refusals=False)
    async with MockKbs.start(tmp_path, PKI, options) as kbs, Guest(kbs.url, PKI) as guest:
        await guest.auth()
        assert (await guest.attest(nonce="A" * 44)).detail == HIDDEN
        assert kbs.counters.refusals[-1].reason == "nonce does not match this session"


MISMATCH = (
    "Attestation error: RCAR handshake Auth failed: "
    "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is "
)


@pytest.mark.parametrize("version", ["0.1.0", "0.3.0", "0.4.0-rc1"])
async def test_version_mismatch(kbs: MockKbs, guest: Guest, version: str) -> None:
    answer = await guest.auth(version=version)
    assert (answer.status, answer.problem) == (401, "AttestationError")
    assert answer.detail == MISMATCH + version
    assert kbs.counters.auth_refused == 1


async def test_build_metadata_is_ignored(guest: Guest) -> None:
    assert (await guest.auth(version="0.4.0+ours")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"version":"0.4.0","tee":"tdx"}',
        b"[" * 100_000,
        b'{"version":1}',
        b"NaN",
        b'{"version":"\\ud800","tee":"tdx","extra-params":""}',
        b'{"version":"0.4.0","tee":"intel-tdx","extra-params":""}',
    ],
    ids=["empty", "list", "no extra-params", "deep", "no text", "not JSON", "surrogate", "tee"],
)
async def test_malformed_auth(guest: Guest, body: bytes) -> None:
    answer = await guest.call("POST", "/kbs/v0/auth", body)
    assert answer.detail == "Attestation error: RCAR handshake Auth failed: deserialize Request"


@pytest.mark.parametrize(
    ("cookie", "reason"),
    [(None, "cookie not found"), ("0" * 32, "session not found, or expired")],
    ids=["none", "unknown"],
)
async def test_attest_without_session(guest: Guest, cookie: str | None, reason: str) -> None:
    await guest.auth()
    guest.cookie = cookie
    assert (await guest.attest()).detail == f"{HIDDEN}: {reason}"


async def test_sample_tee_attests_but_is_denied_by_default(kbs: MockKbs, guest: Guest) -> None:
    await guest.auth(tee="sample")
    digest = report_data(guest.nonce, jwk_of(guest.key))[:48]
    evidence = {"svn": "1", "report_data": base64.b64encode(digest).decode()}
    assert (await guest.attest(evidence=evidence)).status == 200
    answer = await guest.call("GET", PATH)
    assert (answer.status, answer.problem) == (401, "PolicyDeny")
    assert answer.detail.startswith("Access denied by policy: data.policy.allow is not true")
    kbs.set_resource_policy(shipped_policy("allow_all"))
    assert guest.open(await guest.call("GET", PATH)) == SECRET


async def test_other_tees_get_a_nonce_and_no_more(guest: Guest) -> None:
    await guest.auth(tee="snp")
    answer = await guest.attest()
    assert answer.detail == f"{HIDDEN}: this verifier knows the TEEs tdx and sample only"


async def test_body_limit(tmp_path: Path) -> None:
    options = KbsOptions(tls=False, body_limit=1000)
    async with MockKbs.start(tmp_path, PKI, options) as kbs, Guest(kbs.url, PKI) as guest:
        answer = await guest.call("POST", "/kbs/v0/auth", b"x" * 1001)
        assert answer.status == 413
        assert answer.headers["Content-Type"].startswith("text/plain")


async def test_sessions_end(tmp_path: Path) -> None:
    clock = Clock(float(int(PKI.certificates["pck"].not_valid_before_utc.timestamp()) + 90_000))
    options = KbsOptions(tls=False, session_seconds=300, clock=clock)
    async with MockKbs.start(tmp_path, PKI, options) as kbs, Guest(kbs.url, PKI) as guest:
        kbs.put_resource("default/key/1", SECRET)
        token = await guest.handshake()
        clock.now += 300
        assert (await guest.attest()).detail == f"{HIDDEN}: session not found, or expired"
        assert (await guest.call("GET", PATH)).problem == "TokenNotFound"
        assert guest.open(await guest.call("GET", PATH, bearer=token)) == SECRET
        clock.now += 60
        assert (await guest.call("GET", PATH, bearer=token)).status == 200
        clock.now += 1
        answer = await guest.call("GET", PATH, bearer=token)
        assert answer.problem == "TokenVerifierError"
        assert answer.detail == "Token Verifier error: expired 61 seconds ago, 60 are tolerated"


async def test_handshakes_at_once_do_not_mix(kbs: MockKbs) -> None:
    async def one() -> bytes:
        async with Guest(kbs.url, PKI) as guest:
            await guest.handshake()
            return guest.open(await guest.call("GET", PATH))

    assert await asyncio.gather(*(one() for _ in range(8))) == [SECRET] * 8
    assert kbs.counters.quotes_seen == 8
