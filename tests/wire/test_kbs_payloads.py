"""Messages of KBS protocol 0.4.0 against recorded ones, and parsers against everything else."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbs import AaJsonError, KbsProtocolError, TeeKey, session_from_aa_json, session_to_aa_json
from kbs.payloads import (
    MAX_TOKEN_CHARACTERS,
    RCAR_0_4_0,
    Challenge,
    HashAlgorithm,
    InitData,
    token_grant,
)
from kbs.session import AttestedSession
from secrecy import Secret
from tests.wire.kbs_sealing import b64u, make_token

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def challenge_body(**members: object) -> bytes:
    return json.dumps({"nonce": "bm9uY2U=", "extra-params": ""} | members).encode()


def test_the_request_has_the_recorded_form(shared_vectors: Path) -> None:
    bodies = json.loads((shared_vectors / "kbs/rcar/bodies-by-version.json").read_text())
    recorded = next(v for v in bodies.values() if isinstance(v, dict) and "0.4.0" in v)["0.4.0"]
    assert json.loads(RCAR_0_4_0.encode_request("sample")) == recorded["auth"]
    challenge = RCAR_0_4_0.decode_challenge(json.dumps(recorded["challenge"]).encode())
    attest = recorded["attest"]
    body = RCAR_0_4_0.encode_attestation(
        challenge,
        attest["runtime-data"]["tee-pubkey"],
        attest["tee-evidence"]["primary_evidence"],
    )
    assert json.loads(body) == attest


def test_the_request_in_full() -> None:
    assert json.loads(RCAR_0_4_0.encode_request("tdx")) == {
        "version": "0.4.0",
        "tee": "tdx",
        "extra-params": {"supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"]},
    }


@pytest.mark.parametrize("evidence", [{"quote": "QQ=="}, msgspec.Raw(b'{"quote":"QQ=="}')])
def test_the_attestation_in_full(evidence: dict[str, object] | msgspec.Raw) -> None:
    body = RCAR_0_4_0.encode_attestation(
        Challenge("n", HashAlgorithm.SHA384), {"kty": "EC"}, evidence
    )
    assert json.loads(body) == {
        "init-data": None,
        "runtime-data": {"nonce": "n", "tee-pubkey": {"kty": "EC"}},
        "tee-evidence": {"primary_evidence": {"quote": "QQ=="}, "additional_evidence": ""},
    }


def test_init_data_is_sent_as_delivered() -> None:
    text = 'version = "0.1.0"\r\n# \u00e9\n'
    body = RCAR_0_4_0.encode_attestation(
        Challenge("n", HashAlgorithm.SHA384), {"kty": "EC"}, {"quote": "QQ=="}, InitData(text)
    )
    assert json.loads(body)["init-data"] == {"format": "toml", "body": text}


def test_recorded_report_data(shared_vectors: Path) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/report-data.json").read_text())
    case = next(c for c in recorded["cases"] if c["name"] == "primary evidence, no devices")
    for name, digest in case["digest"].items():
        challenge = Challenge(recorded["nonce"], HashAlgorithm(name))
        computed = RCAR_0_4_0.runtime_digest(challenge, recorded["tee-pubkey-ec"])
        assert computed.hex() == digest
    assert len(case["digest"]) == 3


@pytest.mark.parametrize("algorithm", HashAlgorithm)
def test_the_digest_binds_nonce_and_key_under_the_negotiated_hash(algorithm: HashAlgorithm) -> None:
    jwk = TeeKey.generate().public_jwk()
    text = (
        '{"additional-evidence":"","nonce":"N","tee-pubkey":{"alg":"ECDH-ES+A256KW",'
        f'"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}}}'
    )
    digest = RCAR_0_4_0.runtime_digest(Challenge("N", algorithm), jwk)
    if algorithm is HashAlgorithm.SM3:
        assert len(digest) == 32
    else:
        assert digest == hashlib.new(algorithm.value, text.encode()).digest()


def test_recorded_hash_negotiation(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/rcar/hash-negotiation.json").read_text())
    assert len(cases) > 10
    for case in cases:
        body = challenge_body(**{"extra-params": case["extra-params"]})
        if case["expected"] is None:
            with pytest.raises(KbsProtocolError):
                RCAR_0_4_0.decode_challenge(body)
        else:
            assert RCAR_0_4_0.decode_challenge(body).hash_algorithm == case["expected"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"<html>", "not JSON", id="html"),
        pytest.param(b"[]", "not a JSON object", id="array"),
        pytest.param(b'{"extra-params":""}', "nonce is missing", id="no nonce"),
        pytest.param(challenge_body(nonce=5), "nonce is missing", id="nonce number"),
        pytest.param(challenge_body(nonce=""), "1 to 1024", id="empty nonce"),
        pytest.param(challenge_body(nonce="a" * 1025), "1 to 1024", id="long nonce"),
        pytest.param(challenge_body(nonce="a\n"), "visible characters", id="newline in nonce"),
        pytest.param(challenge_body(nonce="\ud800"), "visible characters", id="surrogate in nonce"),
        pytest.param(b'{"nonce":"a"}', "extra-params is missing", id="no extra-params"),
        pytest.param(b'{"nonce":"a","nonce":"b","extra-params":""}', "twice", id="two nonces"),
    ],
)
def test_bad_challenges(body: bytes, problem: str) -> None:
    with pytest.raises(KbsProtocolError, match=problem):
        RCAR_0_4_0.decode_challenge(body)


@settings(max_examples=200)
@given(
    st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(["nonce", "extra-params", "token", "x"]), JSON).map(
        lambda members: json.dumps(members).encode()
    )
)
def test_any_bytes_are_a_message_or_our_error(body: bytes) -> None:
    with suppress(KbsProtocolError):
        assert RCAR_0_4_0.runtime_digest(RCAR_0_4_0.decode_challenge(body), {})
    with suppress(KbsProtocolError):
        assert RCAR_0_4_0.decode_token(body).token
    with pytest.raises(AaJsonError):
        session_from_aa_json(body)


@settings(max_examples=200)
@given(
    st.text("abAB01-_.=", max_size=40) | JSON.map(lambda claims: f"e30.{b64u(dumps(claims))}.QQ")
)
def test_any_text_is_a_token_or_our_error(text: str) -> None:
    try:
        grant = token_grant(text)
    except KbsProtocolError:
        return
    assert grant.token.reveal_text() == text
    assert text not in repr(grant)


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("claims", "expires_at"),
    [
        pytest.param({}, None, id="no exp"),
        pytest.param({"exp": None}, None, id="null"),
        pytest.param({"exp": 1_800_000_000}, 1_800_000_000.0, id="integer"),
        pytest.param({"exp": 1_800_000_000.5}, 1_800_000_000.5, id="fraction"),
        pytest.param({"exp": 0}, 0.0, id="epoch"),
    ],
)
def test_expiry(claims: dict[str, object], expires_at: float | None) -> None:
    assert token_grant(make_token(claims)).expires_at == expires_at


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        pytest.param(make_token({"exp": True}), "not a number", id="boolean exp"),
        pytest.param(make_token({"exp": "1"}), "not a number", id="string exp"),
        pytest.param(make_token({"exp": -1}), "out of range", id="negative exp"),
        pytest.param(make_token({"exp": 10**400}), "out of range", id="huge integer exp"),
        pytest.param("e30.e30", "3 sections", id="two sections"),
        pytest.param("e30.e30.QQ.QQ.QQ", "3 sections", id="a JWE"),
        pytest.param("e30.e30=.QQ", "base64url", id="padding"),
        pytest.param("e30.e30.QQ\r\nX: y", "base64url", id="header injection"),
        pytest.param("W10.e30.QQ", "object", id="header is an array"),
        pytest.param(f"e30.{b64u(b'{')}.QQ", "not JSON", id="claims cut"),
        pytest.param("e30." + "A" * MAX_TOKEN_CHARACTERS + ".QQ", "longer than", id="too long"),
    ],
)
def test_bad_tokens(token: str, problem: str) -> None:
    with pytest.raises(KbsProtocolError, match=problem):
        token_grant(token)


def test_recorded_tokens(shared_vectors: Path) -> None:
    folder = shared_vectors / "kbs/tokens"
    token = (folder / "test-provider-es256.jwt").read_text().strip()
    assert token_grant(token).expires_at == 2006149618
    simple = (folder / "simple-rs384.jwt").read_text().strip()
    assert token_grant(simple).expires_at == 1701672965
    for case in json.loads((folder / "ear-tokens.json").read_text())["cases"]:
        grant = token_grant(case["token"])
        assert (grant.expires_at is None) == (case["name"] == "ear-no-exp")


def test_recorded_agent_reply(shared_vectors: Path) -> None:
    reply = json.loads((shared_vectors / "kbs/tokens/token-provider-reply.json").read_text())
    keys = json.loads((shared_vectors / "kbs/jwe/tee-keys.json").read_text())
    session = session_from_aa_json(reply["reply"].encode())
    assert session.tee_key.public_jwk() == keys["ec-p256"]["public_jwk"]
    assert json.loads(session_to_aa_json(session).reveal()) == json.loads(reply["reply"])


def test_agent_json_round_trip() -> None:
    session = AttestedSession(Secret(make_token({"exp": 5})), TeeKey.generate(), 5.0)
    again = session_from_aa_json(session_to_aa_json(session).reveal())
    assert again.token_id == session.token_id
    assert again.expires_at == 5.0
    assert again.tee_key.public_jwk() == session.tee_key.public_jwk()
    assert session.token.reveal_text() not in repr(session)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b"{}", "missing", id="empty"),
        pytest.param(b'{"token":"e30.e30.QQ"}', "missing", id="no key"),
        pytest.param(b'{"token":"e30.e30.QQ","tee_keypair":"\\u00e9"}', "not PEM", id="not ASCII"),
        pytest.param(b'{"token":"e30.e30.QQ","tee_keypair":"x"}', "private key", id="no PEM"),
        pytest.param(b'{"token":"x","tee_keypair":"x"}', "3 sections", id="no JWT"),
        pytest.param(b" " * 200_000, "longer than", id="too long"),
    ],
)
def test_bad_agent_json(body: bytes, problem: str) -> None:
    with pytest.raises(AaJsonError, match=problem):
        session_from_aa_json(body)
