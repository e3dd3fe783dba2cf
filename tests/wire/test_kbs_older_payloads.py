"""Messages of every version of the KBS protocol against recorded ones."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import InitData, KbsProtocolError, TeeKey, TeeKeyAlgorithm, TeeKeyError
from kbs.handshake import RcarWire
from kbs.older_payloads import (
    RCAR_0_1_0_EARLY,
    RCAR_0_1_0_LATE,
    RCAR_0_1_1,
    RCAR_0_2_0,
)
from kbs.payloads import RCAR_0_4_0, Challenge, HashAlgorithm

RECORDED: dict[str, RcarWire] = {
    "0.1.0 early": RCAR_0_1_0_EARLY,
    "0.1.0 late": RCAR_0_1_0_LATE,
    "0.1.1": RCAR_0_1_1,
    "0.2.0": RCAR_0_2_0,
    "0.4.0": RCAR_0_4_0,
}
OLDER = [wire for name, wire in RECORDED.items() if name != "0.4.0"]
BINDINGS = {
    "early binding": RCAR_0_1_0_EARLY,
    "late binding, RSA": RCAR_0_1_0_LATE,
}


def bodies(shared_vectors: Path) -> dict[str, Any]:
    text = (shared_vectors / "kbs/rcar/bodies-by-version.json").read_text()
    recorded: dict[str, Any] = json.loads(text)["versions"]
    return recorded


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_bodies(shared_vectors: Path, name: str) -> None:
    recorded, wire = bodies(shared_vectors)[name], RECORDED[name]
    assert json.loads(wire.encode_request("sample")) == recorded["auth"]
    challenge = wire.decode_challenge(json.dumps(recorded["challenge"]).encode())
    attest = recorded["attest"]
    key = attest.get("tee-pubkey") or attest["runtime-data"]["tee-pubkey"]
    digest = wire.runtime_digest(challenge, key)
    text = f'{{"svn":"1","report_data":"{base64.b64encode(digest).decode()}"}}'
    body = wire.encode_attestation(challenge, key, msgspec.Raw(text.encode()))
    # Digest, key, evidence as text or JSON, and the names of members: all of it at once.
    assert json.loads(body) == attest


def test_recorded_body_with_init_data_and_a_device(shared_vectors: Path) -> None:
    recorded = bodies(shared_vectors)["0.4.0 with init-data and a device"]
    attest = recorded["attest"]
    challenge = RCAR_0_4_0.decode_challenge(json.dumps(recorded["challenge"]).encode())
    key = attest["runtime-data"]["tee-pubkey"]
    devices = attest["tee-evidence"]["additional_evidence"]
    device = json.loads(devices)["sampledevice"]
    assert RCAR_0_4_0.device_digest(challenge, key) == base64.b64decode(device["report_data"])
    digest = RCAR_0_4_0.runtime_digest(challenge, key, devices)
    primary = {"svn": "1", "report_data": base64.b64encode(digest).decode()}
    init_data = InitData(attest["init-data"]["body"])
    body = RCAR_0_4_0.encode_attestation(challenge, key, primary, init_data, devices)
    assert json.loads(body) == attest


def test_recorded_bindings(shared_vectors: Path) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/report-data.json").read_text())
    challenge = Challenge(recorded["nonce"], HashAlgorithm.SHA384)
    seen = set()
    for case in recorded["cases"]:
        wire = BINDINGS.get(case["name"])
        if wire is not None:
            digest = wire.runtime_digest(challenge, recorded["tee-pubkey-rsa"])
            assert digest.hex() == case["digest"]["sha384"]
            seen.add(case["name"])
    assert seen == set(BINDINGS)


@pytest.mark.parametrize("wire", [RCAR_0_1_1, RCAR_0_2_0], ids=["0.1.1", "0.2.0"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_selected_algorithm_is_used(wire: RcarWire, algorithm: str) -> None:
    extra = {"selected-hash-algorithm": algorithm.upper()}
    body = json.dumps({"nonce": "N", "extra-params": extra}).encode()
    digest = wire.runtime_digest(wire.decode_challenge(body), {"n": "1", "e": "2"})
    text = b'{"nonce":"N","tee-pubkey":{"e":"2","n":"1"}}'
    assert digest == hashlib.new(algorithm, text).digest()


@pytest.mark.parametrize("wire", OLDER, ids=lambda wire: wire.version)
def test_a_post_quantum_key_is_never_replaced_by_another(wire: RcarWire) -> None:
    with pytest.raises(TeeKeyError, match=r"before 0\.4\.0 knows no ML-KEM-768\+A192KW keys"):
        wire.key_algorithm(TeeKeyAlgorithm.ML_KEM_768)
    assert RCAR_0_4_0.key_algorithm(TeeKeyAlgorithm.ML_KEM_768) is TeeKeyAlgorithm.ML_KEM_768


@pytest.mark.parametrize(
    "wanted", [kind for kind in TeeKeyAlgorithm if kind is not TeeKeyAlgorithm.ML_KEM_768]
)
def test_kinds_of_key_by_version(wanted: TeeKeyAlgorithm) -> None:
    for wire in (RCAR_0_1_0_EARLY, RCAR_0_1_0_LATE, RCAR_0_1_1):
        assert wire.key_algorithm(wanted) is TeeKeyAlgorithm.RSA1_5
    p521 = wanted is TeeKeyAlgorithm.EC_P521
    assert RCAR_0_2_0.key_algorithm(wanted) is (TeeKeyAlgorithm.EC_P256 if p521 else wanted)
    assert RCAR_0_4_0.key_algorithm(wanted) is wanted


@pytest.mark.parametrize("wire", OLDER, ids=lambda wire: wire.version)
def test_what_has_no_place_is_not_sent(wire: RcarWire) -> None:
    assert not wire.carries_devices
    challenge, key = Challenge("n", HashAlgorithm.SHA384), {"n": "a", "e": "b"}
    bare = wire.encode_attestation(challenge, key, {"quote": "QQ=="})
    assert wire.encode_attestation(challenge, key, {"quote": "QQ=="}, InitData("x"), "{}") == bare
    assert set(json.loads(bare)) == {"tee-pubkey", "tee-evidence"}
    assert wire.runtime_digest(challenge, key, "{}") == wire.runtime_digest(challenge, key)


@given(
    nonce=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=80)
)
def test_different_challenges_and_keys_never_share_a_digest(nonce: str) -> None:
    key = TeeKey.generate().public_jwk() | {"n": "AQAB", "e": "AQ"}
    one, other = (
        Challenge(nonce, HashAlgorithm.SHA384),
        Challenge(nonce + "x", HashAlgorithm.SHA384),
    )
    for wire in RECORDED.values():
        assert wire.runtime_digest(one, key) == wire.runtime_digest(one, dict(key))
        assert wire.runtime_digest(one, key) != wire.runtime_digest(other, key)
        assert wire.runtime_digest(one, key) != wire.runtime_digest(one, key | {"n": "AQ"})


@pytest.mark.parametrize("wire", OLDER, ids=lambda wire: wire.version)
@given(body=st.binary(max_size=80) | st.text(max_size=40).map(lambda t: json.dumps(t).encode()))
def test_any_bytes_end_in_our_error(wire: RcarWire, body: bytes) -> None:
    with suppress(KbsProtocolError):
        assert wire.decode_challenge(body).nonce
    with suppress(KbsProtocolError):
        assert wire.decode_token(body).token
