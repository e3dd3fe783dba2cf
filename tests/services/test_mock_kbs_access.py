"""The mock KBS: tokens, names of resources, policies, administration."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.kbs.admin import load_admin_key
from mocktee.kbs.jws import SigningKey, algorithms_of, sign_claims
from mocktee.kbs.rego import SHIPPED
from tests.services import kbs_pair
from tests.services.kbs_guest import Answer, Guest, b64u
from tests.services.kbs_pair import PATH, PKI, SECRET

ADMIN_CALLS = [
    ("POST", "/kbs/v0/resource-policy"),
    ("GET", "/kbs/v0/resource-policy"),
    ("POST", "/kbs/v0/attestation-policy"),
    ("POST", "/kbs/v0/reference-value"),
    ("GET", "/kbs/v0/reference-value/mr_td"),
    ("POST", "/mock/faults"),
    ("DELETE", "/mock/faults"),
]

kbs = kbs_pair.kbs
guest = kbs_pair.guest


async def test_no_token(guest: Guest) -> None:
    answer = await guest.call("GET", PATH)
    assert (answer.status, answer.problem) == (401, "TokenNotFound")
    assert answer.detail == "Attestation Token not found"


async def test_bearer_works_without_the_cookie(guest: Guest) -> None:
    token = await guest.handshake()
    answer = await guest.call("GET", PATH, bearer=token, with_cookie=False)
    assert guest.open(answer) == SECRET


async def test_bearer_steps_in_when_the_session_is_not_attested(guest: Guest) -> None:
    token = await guest.handshake()
    await guest.auth()
    assert guest.open(await guest.call("GET", PATH, bearer=token)) == SECRET


async def test_cookie_wins_over_bearer(kbs: MockKbs, guest: Guest) -> None:
    async with Guest(kbs.url, PKI) as other:
        foreign = await other.handshake()
        await guest.handshake()
        answer = await guest.call("GET", PATH, bearer=foreign)
        assert guest.open(answer) == SECRET  # encrypted to the key of the session


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda t: t[:-4] + "AAAA", "signature does not verify"),
        (lambda t: t.split(".")[0], "1 sections instead of 3"),
        (lambda t: t + "=", "not URL-safe base64 without padding"),
        (lambda t: f"e30.{t.split('.', 1)[1]}", "no jwk: only keys in the token are looked at"),
        (lambda _: "a.b.c", "not URL-safe base64 without padding"),
    ],
    ids=["signature", "sections", "padding", "no alg", "noise"],
)
async def test_bad_token(guest: Guest, spoil: Any, reason: str) -> None:
    token = await guest.handshake()
    answer = await guest.call("GET", PATH, bearer=spoil(token), with_cookie=False)
    assert (answer.status, answer.problem) == (401, "TokenVerifierError")
    assert answer.detail == f"Token Verifier error: {reason}"


async def test_token_of_another_kbs_is_refused(tmp_path: Path, guest: Guest) -> None:
    async with (
        MockKbs.start(tmp_path / "other", PKI, KbsOptions(tls=False)) as other,
        Guest(other.url, PKI) as stranger,
    ):
        token = await stranger.handshake()
    answer = await guest.call("GET", PATH, bearer=token)
    assert answer.problem == "TokenVerifierError"


@pytest.mark.parametrize(
    ("jwk", "reason"),
    [
        ({"kty": "RSA", "alg": "RSA1_5", "n": "AQAB", "e": "AQAB"}, "modulus of 17 bits"),
        ({"kty": "RSA", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB"}, "'RSA-OAEP' is not supp"),
        ({"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AQAB", "e": "AQAB"}, "modulus of 17 bits"),
        (
            {"kty": "EC", "crv": "P-384", "alg": "ECDH-ES+A256KW", "x": "AA", "y": "AA"},
            "curve 'P-384' is not supported",
        ),
        (
            {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "AA", "y": "AA"},
            "coordinate x of 1 bytes, expected 32",
        ),
        (
            {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "A" * 43, "y": "A" * 43},
            "",
        ),
    ],
    ids=["RSA1_5", "RSA-OAEP", "short RSA", "curve", "short coordinate", "off the curve"],
)
async def test_key_that_nothing_can_be_encrypted_to(
    guest: Guest, jwk: dict[str, str], reason: str
) -> None:
    await guest.auth()
    assert (await guest.attest(jwk=jwk)).status == 200
    answer = await guest.call("GET", PATH)
    assert (answer.status, answer.problem) == (401, "JweError")
    assert answer.detail.startswith("JWE failed: ")
    assert reason in answer.detail


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("default/key/2", "no resource default/key/2"),
        ("", "path '' is not of the form repository/type/tag"),
        ("key/1", "path 'key/1' is not of the form repository/type/tag"),
        ("/default/key/1", "path '/default/key/1' is not of the form repository/type/tag"),
        ("default/.key/1", "path 'default/.key/1' is not of the form repository/type/tag"),
        ("default/key/1/2", "path 'default/key/1/2' is not of the form repository/type/tag"),
    ],
)
async def test_no_such_resource(guest: Guest, path: str, reason: str) -> None:
    await guest.handshake()
    answer = await guest.call("GET", f"/kbs/v0/resource/{path}")
    assert (answer.status, answer.problem) == (401, "PluginInternalError")
    assert answer.detail == f"Plugin internal error: {reason}"


@pytest.mark.parametrize(
    ("method", "path", "plugin"),
    [
        ("GET", "/kbs/v0/auth", "auth"),
        ("GET", "/kbs/v0/attest", "attest"),
        ("POST", "/kbs/v0/nosuch/a/b", "nosuch"),
    ],
)
async def test_no_such_plugin(guest: Guest, method: str, path: str, plugin: str) -> None:
    answer = await guest.call(method, path)
    assert (answer.status, answer.problem) == (404, "PluginNotFound")
    assert answer.detail == f"Plugin {plugin} not found"


async def test_healthz(guest: Guest) -> None:
    answer = await guest.call("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"")


async def admin(kbs: MockKbs, guest: Guest, method: str, path: str, body: Any = None) -> Answer:
    return await guest.call(method, path, body, bearer=kbs.admin_token_file.read_text())


def sample(payload: bytes) -> dict[str, str]:
    """The message that registers reference values."""
    text = base64.b64encode(payload).decode()
    return {"version": "0.1.0", "type": "sample", "payload": text}


async def test_administration_over_http(kbs: MockKbs, guest: Guest) -> None:
    path = "/kbs/v0/resource/a/b/c"
    await guest.handshake()
    answer = await admin(kbs, guest, "POST", path, b"new")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"] == "text/xml"
    assert guest.open(await guest.call("GET", path)) == b"new"
    assert (await admin(kbs, guest, "POST", path, b"newer")).status == 200
    assert guest.open(await guest.call("GET", path)) == b"newer"
    assert (await admin(kbs, guest, "DELETE", path)).status == 200
    assert (await guest.call("GET", path)).problem == "PluginInternalError"
    assert (await admin(kbs, guest, "PUT", path, b"")).problem == "PluginInternalError"
    assert stat.S_IMODE(kbs.admin_token_file.stat().st_mode) == 0o600


async def test_policies_over_http(kbs: MockKbs, guest: Guest) -> None:
    await guest.handshake()
    for name, status in (("deny_all", 401), ("allow_all", 200)):
        body = {"policy": b64u(shipped_policy(name).encode())}
        assert (await admin(kbs, guest, "POST", "/kbs/v0/resource-policy", body)).status == 200
        assert (await guest.call("GET", PATH)).status == status
    answer = await admin(kbs, guest, "GET", "/kbs/v0/resource-policy")
    assert answer.json() == ["resource-policy"]


async def test_attestation_policy_shapes_the_trust_vector(kbs: MockKbs, guest: Guest) -> None:
    text = 'package policy\ntrust_claims := {"hardware": 2}\n'
    body = {"type": "rego", "policy_id": "default_cpu", "policy": b64u(text.encode())}
    assert (await admin(kbs, guest, "POST", "/kbs/v0/attestation-policy", body)).status == 200
    await guest.handshake()
    cpu = guest.claims()["submods"]["cpu0"]
    assert cpu["ear.trustworthiness-vector"] == {"hardware": 2}
    assert cpu["ear.status"] == "affirming"


async def test_reference_values_over_http(kbs: MockKbs, guest: Guest) -> None:
    body = sample(json.dumps({"mr_td": "AB", "rtmr_0": ["01", "02"]}).encode())
    assert (await admin(kbs, guest, "POST", "/kbs/v0/reference-value", body)).status == 200
    for name, values in (("mr_td", "ab"), ("rtmr_0", ["01", "02"])):
        answer = await admin(kbs, guest, "GET", f"/kbs/v0/reference-value/{name}")
        assert answer.json() == values
    answer = await admin(kbs, guest, "GET", "/kbs/v0/reference-value/rtmr_1")
    assert (answer.status, answer.problem) == (401, "RvpsError")
    assert answer.detail.endswith("No reference value found for the given id: rtmr_1")


@pytest.mark.parametrize(
    ("path", "body", "refused"),
    [
        ("resource-policy", b"", ("ParsePolicyError", "Failed to parse policy: not valid JSON")),
        ("resource-policy", {"policy": "a+b"}, ("ParsePolicyError", "not URL-safe base64")),
        ("resource-policy", {}, ("ParsePolicyError", "No `policy` field")),
        (
            "resource-policy",
            {"policy": b64u(b"package policy\nallow if {")},
            ("PolicyEngineError", "Policy engine error: policy does not compile: this is unclosed"),
        ),
        (
            "attestation-policy",
            {"policy": ""},
            ("AttestationError", "Set Attestation Policy failed: missing field `policy_id`"),
        ),
        ("reference-value", {"payload": "e30="}, ("RvpsError", "type is not sample")),
        ("reference-value", {"type": "sample", "payload": "e30"}, ("RvpsError", "not standard")),
        ("reference-value", sample(b'{"mr_td":[7]}'), ("RvpsError", "mr_td is not text")),
        ("reference-value", sample(b'{"mr_td":"","x":""}'), ("RvpsError", "'x' is not compared")),
    ],
)
async def test_admin_bodies_that_are_refused(
    kbs: MockKbs, guest: Guest, path: str, body: Any, refused: tuple[str, str]
) -> None:
    answer = await admin(kbs, guest, "POST", f"/kbs/v0/{path}", body)
    assert (answer.status, answer.problem) == (401, refused[0])
    assert refused[1] in answer.detail
    assert not kbs.references.registered()


@pytest.mark.parametrize(("method", "path"), ADMIN_CALLS)
async def test_admin_calls_need_a_credential(guest: Guest, method: str, path: str) -> None:
    answer = await guest.call(method, path, {})
    assert (answer.status, answer.problem) == (401, "AdminAuthAccess")
    endpoint = path.split("/")[3] if path.startswith("/kbs") else "mock"
    assert answer.detail.startswith(f"admin access denied for endpoint {endpoint}: ")


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_changing_a_resource_needs_a_credential(guest: Guest, method: str) -> None:
    await guest.handshake()  # a guest's session and token are no admin credential
    answer = await guest.call(method, PATH, b"mine", bearer=guest.token)
    assert (answer.status, answer.problem) == (401, "AdminAuthInitialization")
    assert guest.open(await guest.call("GET", PATH)) == SECRET


@pytest.mark.parametrize(
    ("key", "good"),
    [
        (ed25519.Ed25519PrivateKey.generate(), True),
        (ec.generate_private_key(ec.SECP256R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), False),
    ],
    ids=["Ed25519", "P-256", "P-384"],
)
def test_admin_keys_from_files(tmp_path: Path, key: SigningKey, good: bool) -> None:
    path = tmp_path / "admin.pem"
    form = PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, form))
    if good:
        assert load_admin_key(path) == key.public_key()
        return
    with pytest.raises(ValueError, match="neither an Ed25519 nor an EC P-256 public key"):
        load_admin_key(path)


FAR = 4_000_000_000


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"exp": FAR, "role": "admin"}, 200),
        ({"exp": 1, "role": "admin"}, 401),
        ({"role": "admin"}, 401),
        ({"exp": FAR}, 401),
        ({"exp": FAR, "role": "guest"}, 401),
    ],
    ids=["good", "expired", "no exp", "no role", "other role"],
)
@pytest.mark.parametrize("kind", ["EdDSA", "ES256"])
async def test_admin_tokens_of_given_keys(
    tmp_path: Path, kind: str, claims: dict[str, Any], status: int
) -> None:
    key: SigningKey = (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "EdDSA"
        else ec.generate_private_key(ec.SECP256R1())
    )
    assert algorithms_of(key.public_key()) == (kind,)
    options = KbsOptions(tls=False, admin_keys=(key.public_key(),))
    async with MockKbs.start(tmp_path, PKI, options) as kbs, Guest(kbs.url, PKI) as guest:
        token = sign_claims({"alg": kind}, claims, key)
        assert (await guest.call("POST", PATH, b"x", bearer=token)).status == status


PER_TAG = """
package policy
import rego.v1
default allow := false
allow if {
    data["resource-path"][0] == "default"
    data["resource-path"][2] in {"1", "2"}
    data.query.purpose == "boot"
    input.submods.cpu0["ear.veraison.annotated-evidence"].tdx.tcb_status == "UpToDate"
}
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"{PATH}?purpose=boot", True),
        (f"{PATH}?purpose=play", False),
        (PATH, False),
        ("/kbs/v0/resource/other/key/1?purpose=boot", False),
        ("/kbs/v0/resource/default/key/3?purpose=boot", False),
    ],
)
async def test_rego_sees_path_query_and_claims(
    kbs: MockKbs, guest: Guest, path: str, allowed: bool
) -> None:
    kbs.put_resource("other/key/1", SECRET)
    kbs.put_resource("default/key/3", SECRET)
    kbs.set_resource_policy(PER_TAG)
    await guest.handshake()
    answer = await guest.call("GET", path)
    assert (answer.status == 200) is allowed
    assert allowed or answer.problem == "PolicyDeny"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("package policy\nallow := 1", "PolicyDeny"),
        ('package policy\nallow := "true"', "PolicyDeny"),
        ("package policy\nother := true", "PolicyDeny"),
        ("package elsewhere\nallow := true", "PolicyDeny"),
        (
            "package policy\nallow := true if input.exp > 0\nallow := false if input.exp > 0",
            "PolicyEngineError",
        ),
    ],
    ids=["number", "text", "undefined", "other package", "conflict"],
)
async def test_anything_but_true_denies(
    kbs: MockKbs, guest: Guest, text: str, problem: str
) -> None:
    kbs.set_resource_policy(text)
    await guest.handshake()
    assert (await guest.call("GET", PATH)).problem == problem


async def test_policy_that_does_not_compile_leaves_the_old_one(kbs: MockKbs, guest: Guest) -> None:
    body = {"policy": b64u(b"package policy\nallow if {")}
    assert (await admin(kbs, guest, "POST", "/kbs/v0/resource-policy", body)).status == 401
    await guest.handshake()
    assert guest.open(await guest.call("GET", PATH)) == SECRET


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_policies_are_texts_with_a_package(name: str) -> None:
    assert "package policy" in shipped_policy(name)
