"""Tokens of one mock KBS at another one, devices beside the TEE, and administration by era."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.__main__ import options_of, parse_arguments
from mocktee.kbs.era import ERAS
from mocktee.kbs.errors import EraOptionError, TokenRefusedError, UnknownEraError
from mocktee.kbs.jws import sign_claims
from mocktee.kbs.signer import SignerIdentity
from mocktee.kbs.trust import TokenVerifier, endorse, read_jwk, tee_key_of
from mocktee.pki import MockPki
from tests.services.kbs_guest import b64u
from tests.services.kbs_old_guest import JSON, OldGuest

PKI = MockPki.create()
PATH = "default/key/1"
SECRET = b"of the second key broker"
# Within the life of the recorded certificates and tokens.
RECORDED_NOW = 1_780_000_000


async def passport(folder: Path, first: KbsOptions, second: KbsOptions) -> tuple[int, bytes]:
    """Attest to one KBS and show its token to another one."""
    async with (
        MockKbs.start(folder / "1", PKI, first) as issuer,
        MockKbs.start(folder / "2", PKI, second) as kbs,
        OldGuest(issuer.url, "0.4.0") as guest,
    ):
        kbs.put_resource(PATH, SECRET)
        kbs.set_resource_policy(shipped_policy("allow_all"))
        token = await guest.handshake()
        guest.url = kbs.url
        answer = await guest.get(PATH, bearer=token)
        return answer.status, guest.open(answer) if answer.status == 200 else answer.body


async def test_a_trusted_signer(tmp_path: Path) -> None:
    identity = SignerIdentity.create()
    first = KbsOptions(tls=False, identity=identity)
    second = KbsOptions(tls=False, trusted_certificates=[identity.chain[1]])
    assert await passport(tmp_path, first, second) == (200, SECRET)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (lambda me: {"identity": me}, lambda _: {}, "does not chain to a trusted certificate"),
        (
            lambda me: {"identity": me},
            lambda me: {"trusted_certificates": [me.chain[0]]},
            "does not chain to a trusted certificate",
        ),
        (
            lambda me: {"identity": me},
            lambda _: {"trusted_certificates": [SignerIdentity.create().chain[1]]},
            "does not chain to a trusted certificate",
        ),
        (
            lambda _: {},
            lambda me: {"trusted_certificates": [me.chain[1]]},
            "header jwk is not the key of this signer and has no x5c",
        ),
    ],
    ids=["nobody trusted", "only the leaf trusted", "another one trusted", "no certificate"],
)
async def test_a_signer_nobody_vouches_for(
    tmp_path: Path,
    first: Callable[[SignerIdentity], dict[str, Any]],
    second: Callable[[SignerIdentity], dict[str, Any]],
    reason: str,
) -> None:
    me = SignerIdentity.create()
    status, body = await passport(
        tmp_path, KbsOptions(tls=False, **first(me)), KbsOptions(tls=False, **second(me))
    )
    assert status == 401
    assert json.loads(body)["type"].endswith("/TokenVerifierError")
    assert reason in json.loads(body)["detail"]


async def test_the_insecure_switch_takes_any_signer(tmp_path: Path) -> None:
    second = KbsOptions(tls=False, insecure_header_jwk=True)
    assert await passport(tmp_path, KbsOptions(tls=False), second) == (200, SECRET)


@pytest.mark.parametrize(
    ("number", "good"),
    [(1, True), (2, False), (3, False), (4, False), (5, True), (6, True), (7, True)],
)
def test_recorded_endorsements(shared_vectors: Path, number: int, good: bool) -> None:
    folder = shared_vectors / "kbs/tokens/jwk-endorsement"
    jwk = json.loads((folder / f"scenario0{number}-jwk.json").read_text())
    pem = (folder / f"scenario0{number}-trust.pem").read_bytes()
    anchors = x509.load_pem_x509_certificates(pem)
    if good:
        endorse(jwk, read_jwk(jwk), anchors, RECORDED_NOW)
        return
    with pytest.raises(ValueError, match=r"x5c|leaf"):
        endorse(jwk, read_jwk(jwk), anchors, RECORDED_NOW)


def test_endorsement_ends_with_the_certificate(shared_vectors: Path) -> None:
    folder = shared_vectors / "kbs/tokens/jwk-endorsement"
    jwk = json.loads((folder / "scenario01-jwk.json").read_text())
    anchors = x509.load_pem_x509_certificates((folder / "scenario01-trust.pem").read_bytes())
    with pytest.raises(ValueError, match="not valid at this time"):
        endorse(jwk, read_jwk(jwk), anchors, RECORDED_NOW + 20 * 365 * 86400)


def test_recorded_tokens(shared_vectors: Path) -> None:
    folder = shared_vectors / "kbs/tokens"
    anchors = x509.load_pem_x509_certificates((folder / "as-signer/cert-chain.pem").read_bytes())
    own = ec.generate_private_key(ec.SECP256R1()).public_key()
    verifier = TokenVerifier(own, lambda: RECORDED_NOW, anchors=anchors)
    cases = json.loads((folder / "ear-tokens.json").read_text())["cases"]
    outcomes = {}
    for case in cases:
        try:
            claims = verifier.verify(case["token"])
            tee_key_of(claims, "cpu" if "v0.12" in case["name"] else "cpu0")
            outcomes[case["name"]] = "accepted"
        except TokenRefusedError as error:
            outcomes[case["name"]] = error.reason.split(",")[0][:24]
    assert outcomes == {
        "ear-x5c": "accepted",
        "ear-bare-jwk": "header jwk is not the ke",
        "ear-expired": outcomes["ear-expired"],
        "ear-no-exp": "claim exp is missing",
        "ear-bad-signature": "signature does not verif",
        "ear-v0.12-submodule-name": "accepted",
    }
    assert outcomes["ear-expired"].startswith("expired ")


async def test_a_device_gets_a_submodule_of_its_own(tmp_path: Path) -> None:
    async with (
        MockKbs.start(tmp_path, PKI, KbsOptions(tls=False)) as kbs,
        OldGuest(kbs.url, "0.4.0", device=True) as guest,
    ):
        await guest.handshake()
        device = guest.claims()["submods"]["gpu0"]
        assert device["ear.status"] == "contraindicated"
        evidence = device["ear.veraison.annotated-evidence"]
        assert evidence["sampledevice"] == {"svn": "2"}
        assert evidence["runtime_data_claims"] == {"nonce": guest.nonce, "tee-pubkey": guest.jwk()}
        kbs.references.register_document({"device_svn": ["2"]})
        await guest.handshake()
        vector = guest.claims()["submods"]["gpu0"]["ear.trustworthiness-vector"]
        assert vector["hardware"] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "additional evidence: not valid JSON"),
        ("[]", "additional evidence: not a JSON object"),
        ('{"nvidia":{}}', "no verifier for device 'nvidia'"),
        ('{"sampledevice":{}}', "member svn of TEE sampledevice is missing"),
        (
            '{"sampledevice":{"svn":"2","report_data":"AAAA"}}',
            "report data of TEE sampledevice does not bind nonce and TEE key",
        ),
    ],
)
async def test_bad_devices(tmp_path: Path, text: str, reason: str) -> None:
    async with (
        MockKbs.start(tmp_path, PKI, KbsOptions(tls=False)) as kbs,
        OldGuest(kbs.url, "0.4.0") as guest,
    ):
        await guest.auth()
        answer = await guest.attest(additional=text)
        assert (answer.status, answer.problem) == (401, "AttestationError")
        assert reason in answer.detail


@pytest.mark.parametrize("era", ERAS)
async def test_admin_tokens(tmp_path: Path, era: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    soon = int(time.time()) + 600
    header: dict[str, Any] = {"typ": "JWT", "alg": "EdDSA"}
    roleless = sign_claims(header, {"exp": soon}, key)
    admin = sign_claims(header, {"exp": soon, "role": "admin"}, key)
    options = KbsOptions(tls=False, era=era, admin_keys=[key.public_key()], verbose_refusals=False)
    body = {"policy": b64u(shipped_policy("allow_every_path").encode())}
    async with MockKbs.start(tmp_path, PKI, options) as kbs, OldGuest(kbs.url, "0.4.0") as guest:

        async def post(bearer: str | None) -> Any:
            headers = JSON | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
            return await guest.call("POST", "/kbs/v0/resource-policy", body, headers)

        assert (await post(admin)).status == 200
        assert (await post(roleless)).status == (401 if era == "head" else 200)
        refused = await post(None)
    assert refused.status == 401
    plugins = "AdminAuthAccess" if era == "head" else "AdminAuth"
    assert refused.problem == (plugins if ERAS[era].plugins else "FailedAuthentication")


@pytest.mark.parametrize("era", ERAS)
async def test_who_may_set_the_attestation_policy(tmp_path: Path, era: str) -> None:
    options = KbsOptions(tls=False, era=era)
    text = b64u(b'package policy\ntrust_claims := {"hardware": 2}\n')
    body = {"type": "rego", "policy_id": ERAS[era].attestation_policy_id, "policy": text}
    async with MockKbs.start(tmp_path, PKI, options) as kbs, OldGuest(kbs.url, "0.4.0") as guest:
        answer = await guest.call("POST", "/kbs/v0/attestation-policy", body, JSON)
    assert answer.status == (200 if era in ("v0.11", "v0.13") else 401)


async def test_admin_open_to_all_keeps_the_control_interface(tmp_path: Path) -> None:
    options = KbsOptions(tls=False, admin_open_to_all=True)
    async with MockKbs.start(tmp_path, PKI, options) as kbs, OldGuest(kbs.url, "0.4.0") as guest:
        assert (await guest.call("POST", f"/kbs/v0/resource/{PATH}", b"x")).status == 200
        assert (await guest.call("POST", "/mock/faults", {})).status == 401


def test_options_that_an_era_does_not_have(tmp_path: Path) -> None:
    for options in (
        KbsOptions(era="head", simple_token=True),
        KbsOptions(era="v0.9", identity=SignerIdentity.create()),
    ):
        with pytest.raises(EraOptionError, match="does not have"):
            MockKbs(tmp_path, PKI, options)
    with pytest.raises(UnknownEraError, match=r"'v9' is not known; there are v0.8, v0.9"):
        MockKbs(tmp_path, PKI, KbsOptions(era="v9"))


def test_command_line(tmp_path: Path) -> None:
    identity = SignerIdentity.create()
    key, chain = identity.save(tmp_path)
    assert key.stat().st_mode & 0o777 == 0o600
    arguments = ["--state", ".", "--pki", ".", "--era", "v0.13", "--open-admin", "--simple-token"]
    arguments += ["--signer", str(key), str(chain), "--trusted-cert", str(chain)]
    options = options_of(parse_arguments([*arguments, "--insecure-header-jwk"]))
    assert options.era == "v0.13"
    assert options.admin_open_to_all
    assert options.simple_token
    assert options.insecure_header_jwk
    assert options.identity is not None
    assert options.identity.chain == identity.chain
    assert tuple(options.trusted_certificates) == identity.chain


def test_an_identity_of_two_keys_is_refused(tmp_path: Path) -> None:
    key, chain = SignerIdentity.create().save(tmp_path)
    other = SignerIdentity.create().chain[0].public_bytes(Encoding.PEM)
    chain.write_bytes(other)
    with pytest.raises(ValueError, match="does not begin with the certificate"):
        SignerIdentity.load(key, chain)
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ValueError, match=r"."):
        SignerIdentity.load(key, chain)
