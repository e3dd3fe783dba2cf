"""The mock KBS as a guest meets it: the accepted way, and each refusal with its reason."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.pki import MockPki
from mocktee.td import DEBUG, SEPT_VE_DISABLE, TdState
from tests.services.kbs_guest import (
    END_OF_LOG,
    Guest,
    TeeKey,
    jwk_of,
    report_data,
    tdx_evidence,
    unb64u,
)

PKI = MockPki.create()
FOREIGN_PKI = MockPki.create()
SECRET = b"the secret of this test"
PATH = "/kbs/v0/resource/default/key/1"
HIDDEN = "Attestation error: RCAR handshake Attest failed"
INITDATA = (
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"aa.toml\" = '''a = 1'''\n"
    "\"policy.rego\" = 'package agent_policy'\n"
)


class Clock:
    """Wall time that a test can move."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def kbs(tmp_path: Path) -> AsyncIterator[MockKbs]:
    async with MockKbs.start(tmp_path, PKI, KbsOptions(tls=False)) as kbs:
        kbs.put_resource("default/key/1", SECRET)
        yield kbs


@pytest.fixture
async def guest(kbs: MockKbs) -> AsyncIterator[Guest]:
    async with Guest(kbs.url, PKI) as guest:
        yield guest


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


async def test_token_is_an_ear(kbs: MockKbs, guest: Guest) -> None:
    token = await guest.handshake()
    header = json.loads(unb64u(token.split(".")[0]))
    assert (header["typ"], header["alg"]) == ("JWT", "ES256")
    assert set(header["jwk"]) == {"kty", "crv", "alg", "x", "y"}
    claims = guest.claims()
    assert claims["exp"] - claims["iat"] == kbs.options.token_seconds == 300
    assert claims["iss"] == "CoCo-Attestation-Service"
    cpu = claims["submods"]["cpu0"]
    assert cpu["ear.status"] == "contraindicated"  # nothing is known good yet
    evidence = cpu["ear.veraison.annotated-evidence"]
    assert evidence["runtime_data_claims"] == {
        "additional-evidence": "",
        "nonce": guest.nonce,
        "tee-pubkey": jwk_of(guest.key),
    }
    body = evidence["tdx"]["quote"]["body"]
    assert body["mr_td"] == guest.td.mrtd.hex()
    assert evidence["report_data"] == body["report_data"]
    assert evidence["init_data"] == body["mr_config_id"]
    assert evidence["tdx"]["tcb_status"] == "UpToDate"
    assert len(evidence["tdx"]["uefi_event_logs"]) == len(guest.td.boot_log.events)


async def test_known_good_values_make_the_token_affirming(kbs: MockKbs, guest: Guest) -> None:
    kbs.set_reference_values(
        mr_td=[guest.td.mrtd.hex().upper()],
        rtmr_1=["00" * 48, guest.td.rtmrs[1].hex()],
        rtmr_2=[guest.td.rtmrs[2].hex()],
        xfam=[guest.td.xfam.to_bytes(8, "little").hex()],
        tcb_status=["UpToDate"],
    )
    await guest.handshake()
    assert guest.claims()["submods"]["cpu0"]["ear.status"] == "affirming"
    kbs.set_resource_policy(shipped_policy("affirming"))
    assert guest.open(await guest.call("GET", PATH)) == SECRET


def _tampered_rtmr2(guest: Guest) -> dict[str, Any]:
    guest.td.tamper("rtmr2", b"\x11" * 48)
    return {}


def _foreign_root(guest: Guest) -> dict[str, Any]:
    guest.pki = FOREIGN_PKI
    return {}


def _debug(guest: Guest) -> dict[str, Any]:
    guest.td.attributes = SEPT_VE_DISABLE | DEBUG
    return {}


def _flipped_register(guest: Guest) -> dict[str, Any]:
    evidence = tdx_evidence(PKI, guest.td, report_data(guest.nonce, jwk_of(guest.key)))
    quote = bytearray(base64.b64decode(evidence["quote"]))
    quote[500] ^= 1
    return {"evidence": evidence | {"quote": base64.b64encode(quote).decode()}}


def _other_key(guest: Guest) -> dict[str, Any]:
    other = jwk_of(ec.generate_private_key(ec.SECP256R1()))
    return {"report_data": report_data(guest.nonce, other)}


def _extra_jwk_member(guest: Guest) -> dict[str, Any]:
    return {"jwk": jwk_of(guest.key) | {"kid": "1"}}  # hashed by the guest, dropped by the server


def _stale_quote(guest: Guest) -> dict[str, Any]:
    return {"report_data": report_data("A" * 44, jwk_of(guest.key))}


REFUSED: list[tuple[str, Callable[[Guest], dict[str, Any]], str]] = [
    ("nonce of nobody", lambda g: {"nonce": "A" * 44}, "nonce does not match this session"),
    ("register tampered", _tampered_rtmr2, f"event log replay: RTMR2 is {'11' * 48}, log says"),
    ("foreign root", _foreign_root, "quote signature chain: "),
    ("debug", _debug, "td_attributes: the TD runs in debug mode"),
    ("bit flipped", _flipped_register, "quote signature chain: ISV enclave report signature"),
    ("other key bound", _other_key, "report data does not bind nonce and TEE key"),
    ("JWK with more members", _extra_jwk_member, "report data does not bind nonce and TEE key"),
    ("quote of another nonce", _stale_quote, "report data does not bind nonce and TEE key"),
    ("log is noise", lambda g: {"log": b"\x07" * 99}, "event log: "),
    ("log of nothing", lambda g: {"log": g.td.boot_log.encode()[:65] + END_OF_LOG}, "RTMR0 is"),
    ("no quote", lambda g: {"evidence": {"cc_eventlog": None}}, "member quote is missing or empty"),
    ("quote not text", lambda g: {"evidence": {"quote": 7}}, "member quote is not a string"),
    ("quote not base64", lambda g: {"evidence": {"quote": "_-_-"}}, "not standard base64"),
    ("quote too short", lambda g: {"evidence": {"quote": "AAAA"}}, "3 bytes cannot be a TDX quote"),
    ("evidence of v0.2", lambda g: {"evidence": "text"}, "primary_evidence of TEE tdx is not an"),
    ("no key", lambda g: {"jwk": {"kty": "oct"}}, "tee-pubkey has a kty other than EC, RSA or AKP"),
    (
        "initdata of another TD",
        lambda g: {"init_data": {"format": "toml", "body": INITDATA}},
        "init-data: MRCONFIGID is different from that in TDX Quote",
    ),
    (
        "initdata as JSON",
        lambda g: {"init_data": {"format": "json", "body": "{}"}},
        "init-data: format is not toml",
    ),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_refused_with_the_reason(
    kbs: MockKbs, guest: Guest, change: Callable[[Guest], dict[str, Any]], reason: str
) -> None:
    await guest.auth()
    answer = await guest.attest(**change(guest))
    assert (answer.status, answer.problem) == (401, "AttestationError")
    assert answer.detail.startswith(f"{HIDDEN}: ")
    assert reason in answer.detail
    assert "Content-Type" not in answer.headers
    assert kbs.counters.attest_refused == 1
    assert reason in kbs.counters.refusals[-1].reason
    assert (await guest.call("GET", PATH)).problem == "TokenNotFound"


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


async def test_replayed_nonce_is_named(kbs: MockKbs, guest: Guest) -> None:
    await guest.handshake()
    used = guest.nonce
    await guest.auth()
    answer = await guest.attest(nonce=used)
    assert answer.detail == (
        f"{HIDDEN}: nonce does not match this session: it was issued to another one and is replayed"
    )


@pytest.mark.parametrize("which", ["mr_td", "rtmr_0", "mr_config_id", "tcb_status", "mr_servicetd"])
async def test_reference_value_missed(kbs: MockKbs, guest: Guest, which: str) -> None:
    kbs.set_reference_values(**{which: ["ab" * 48]})
    await guest.auth()
    answer = await guest.attest()
    assert answer.detail.startswith(f"{HIDDEN}: reference value {which}: got ")
    assert answer.detail.lower().endswith(f", expected {'ab' * 48}")
    kbs.set_reference_values(**{which: []})
    assert (await guest.attest()).status == 200


async def test_initdata_of_this_td(guest: Guest) -> None:
    digest = hashlib.sha256(INITDATA.encode()).digest()
    guest.td = TdState.booted(mrconfigid=digest.ljust(48, b"\0"))
    await guest.auth()
    answer = await guest.attest(init_data={"format": "toml", "body": INITDATA})
    assert answer.status == 200, answer.body
    evidence = guest.claims()["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    assert evidence["init_data_claims"] == {
        "aa.toml": {"a": 1},
        "policy.rego": "package agent_policy",
    }
    assert evidence["init_data"] == digest.ljust(48, b"\0").hex()


async def test_evidence_without_a_log_is_accepted(guest: Guest) -> None:
    await guest.auth()
    assert (await guest.attest(log=b"")).status == 200


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
