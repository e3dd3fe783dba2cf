"""ML-KEM-768 TEE keys: the derivation against NIST's samples, what opens and what is refused."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbs import (
    AttestedSession,
    JweError,
    TeeKey,
    TeeKeyAlgorithm,
    TeeKeyError,
    session_to_aa_json,
)
from kbs.jwe import open_jwe, parse_jwe
from kbs.ml_kem import derive_wrapping_key, kmac256
from mocktee.kbs import jwe as mock_jwe
from mocktee.kbs.teekey import TeePublicKey
from secrecy import Secret
from tests.wire import keccak
from tests.wire.kbs_sealing import b64u, make_token, seal, unb64u

ALG = "ML-KEM-768+A192KW"
KEY = TeeKey.generate(TeeKeyAlgorithm.ML_KEM_768)
PLAINTEXT = b"top secret payload"
OPAQUE = str(JweError())
# NIST's KMAC_samples for SP 800-185: key 40..5F, 512 bits.
SAMPLE_KEY = bytes(range(0x40, 0x60))
SAMPLE_4 = (
    "20c570c31346f703c9ac36c61c03cb64c3970d0cfc787e9b79599d273a68d2f7"
    "f69d4cc3de9d104a351689f27cf6f5951f0103f33f4f24871024d9c27773a8dd"
)
SAMPLE_5 = (
    "75358cf39e41494e949707927cee0af20a3ff553904c86b08f21cc414bcfd691"
    "589d27cf5e15369cbbff8b9a4c2eb17800855d0235ff635da82533ec6b759b69"
)


def opened(jwe: object, key: TeeKey = KEY) -> bytes:
    return open_jwe(parse_jwe(json.dumps(jwe).encode()), key).reveal()


def refused(jwe: object, key: TeeKey = KEY) -> None:
    with pytest.raises(JweError) as caught:
        opened(jwe, key)
    assert str(caught.value) == OPAQUE
    assert caught.value.__cause__ is None


def test_kmac256_gives_nists_sample() -> None:
    # Sample 5 is the one without customisation, as here.
    assert kmac256(SAMPLE_KEY, bytes(range(200)), 64).hex() == SAMPLE_5


def test_the_oracle_gives_nists_samples() -> None:
    for length in (0, 1, 135, 136, 137, 300):
        assert keccak.sha3_256(bytes(length)) == hashlib.sha3_256(bytes(length)).digest()
    custom = b"My Tagged Application"
    assert keccak.kmac256(SAMPLE_KEY, bytes(range(4)), 64, custom).hex() == SAMPLE_4
    assert keccak.kmac256(SAMPLE_KEY, bytes(range(200)), 64).hex() == SAMPLE_5


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_the_wrapping_key_is_what_the_text_says(shared_secret: bytes) -> None:
    data = b"\0\0\0\x11ML-KEM-768+A192KW\0\0\0\xc0"
    assert derive_wrapping_key(shared_secret) == keccak.kmac256(shared_secret, data, 24)


def test_the_public_form() -> None:
    jwk = KEY.public_jwk()
    assert jwk == {"kty": "AKP", "alg": ALG, "pub": jwk["pub"]}
    assert len(unb64u(jwk["pub"])) == 1184
    assert len(jwk["pub"]) == 1579
    assert repr(KEY) == f"TeeKey({ALG})"


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(70_000)], ids=["empty", "one", "large"])
def test_what_the_mock_encrypts_opens(plaintext: bytes) -> None:
    document = mock_jwe.encrypt(TeePublicKey.parse(dict(KEY.public_jwk())), plaintext)
    header = json.loads(unb64u(str(document["protected"])))
    assert list(header) == ["alg", "enc", "ek"]
    assert len(unb64u(header["ek"])) == 1088
    assert opened(document) == plaintext


def test_the_mock_refuses_what_is_no_key_or_not_of_its_era() -> None:
    short = {"kty": "AKP", "alg": ALG, "pub": b64u(bytes(1183))}
    with pytest.raises(ValueError, match="1183 bytes"):
        mock_jwe.encrypt(TeePublicKey.parse(dict(short)), b"x")
    public = TeePublicKey.parse(dict(KEY.public_jwk()))
    with pytest.raises(ValueError, match="not supported"):
        mock_jwe.encrypt(public, b"x", frozenset({"P-256", "RSA1_5"}))


@pytest.mark.parametrize("ek", ["", "!", "QQ", b64u(bytes(1087)), b64u(bytes(1089))])
def test_a_ciphertext_of_another_length_is_refused(ek: str) -> None:
    refused(seal(KEY.public_jwk(), PLAINTEXT, header={"ek": ek}))


def test_no_ciphertext_or_one_for_another_key_is_refused() -> None:
    refused(seal(KEY.public_jwk(), PLAINTEXT, header={"ek": None}))
    refused(seal(KEY.public_jwk(), PLAINTEXT, header={"ek": b64u(bytes(1088))}))
    refused(seal(TeeKey.generate(TeeKeyAlgorithm.ML_KEM_768).public_jwk(), PLAINTEXT))


@pytest.mark.parametrize("cek_bytes", [16, 24, 40])
def test_a_content_key_of_another_length_is_refused(cek_bytes: int) -> None:
    # AESGCM itself takes no 40 bytes, so the sealed part is another one's.
    wrapped = seal(KEY.public_jwk(), b"", content_key=bytes(32), wrapped_key=bytes(cek_bytes))
    refused(wrapped)


@pytest.mark.parametrize("other", ["ECDH-ES+A256KW", "RSA-OAEP-256", "RSA1_5", "ML-KEM-768"])
def test_no_other_algorithm_opens_with_this_key(other: str) -> None:
    refused(seal(KEY.public_jwk(), PLAINTEXT, header={"alg": other}))


@settings(max_examples=100, deadline=None)
@given(
    ek=st.none() | st.text(max_size=40) | st.binary(min_size=1088, max_size=1088).map(b64u),
    encrypted_key=st.binary(max_size=48) | st.binary(min_size=40, max_size=40),
)
def test_any_values_end_in_the_one_opaque_error(ek: str | None, encrypted_key: bytes) -> None:
    with pytest.raises(JweError) as caught:
        KEY.unwrap(ALG, None, encrypted_key, ek=ek)
    assert str(caught.value) == OPAQUE
    assert caught.value.__cause__ is None


def test_a_session_with_such_a_key_is_not_handed_over() -> None:
    session = AttestedSession(Secret(make_token({"exp": 2_000_000_000})), KEY, 2_000_000_000.0)
    with pytest.raises(TeeKeyError, match=r"ML-KEM-768\+A192KW.*no agreed PEM.*run cguestd"):
        session_to_aa_json(session)
