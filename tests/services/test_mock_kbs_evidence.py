"""Evidence as the mock KBS judges it: tokens for good guests, each refusal with its reason."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mocktee.kbs import MockKbs, shipped_policy
from mocktee.pki import MockPki
from mocktee.td import DEBUG, SEPT_VE_DISABLE, TdState
from tests.services import kbs_pair
from tests.services.kbs_guest import END_OF_LOG, Guest, jwk_of, report_data, tdx_evidence, unb64u
from tests.services.kbs_pair import HIDDEN, PATH, PKI, SECRET

FOREIGN_PKI = MockPki.create()
INITDATA = (
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"aa.toml\" = '''a = 1'''\n"
    "\"policy.rego\" = 'package agent_policy'\n"
)

kbs = kbs_pair.kbs
guest = kbs_pair.guest


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
