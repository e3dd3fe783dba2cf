"""RSA1_5 and the JWE of KBS protocol 0.1.x: what opens, and that failures do not tell why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from kbs import JweError, JweFormatError, TeeKey, TeeKeyAlgorithm, TeeKeyError
from kbs.jwe import open_jwe, parse_jwe
from tests.wire.kbs_sealing import b64u, seal, seal_legacy, unb64u

KEY = TeeKey.generate(TeeKeyAlgorithm.RSA1_5)
OTHERS: dict[TeeKeyAlgorithm, TeeKey] = {
    algorithm: TeeKey.generate(algorithm)
    for algorithm in TeeKeyAlgorithm
    if algorithm is not TeeKeyAlgorithm.RSA1_5
}
PLAINTEXT = b"top secret payload"
OPAQUE = str(JweError())


def opened(jwe: object, key: TeeKey = KEY) -> bytes:
    return open_jwe(parse_jwe(json.dumps(jwe).encode()), key).reveal()


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(70_000)], ids=["empty", "one", "large"])
def test_the_legacy_form_opens(plaintext: bytes) -> None:
    assert opened(seal_legacy(KEY.public_jwk(), plaintext)) == plaintext


@pytest.mark.parametrize("algorithm", OTHERS)
def test_no_other_key_takes_rsa1_5_in_either_form(algorithm: TeeKeyAlgorithm) -> None:
    key = OTHERS[algorithm]
    for form in (seal_legacy(KEY.public_jwk(), b"x"), seal(KEY.public_jwk(), b"x")):
        with pytest.raises(JweError) as caught:
            opened(form, key)
        assert str(caught.value) == OPAQUE


def encrypted(block: bytes) -> bytes:
    """What a sender without manners puts where PKCS #1 would: any block, raised to e."""
    jwk = KEY.public_jwk()
    n, e = (int.from_bytes(unb64u(jwk[name]), "big") for name in ("n", "e"))
    return pow(int.from_bytes(block, "big"), e, n).to_bytes(256, "big")


def block(kind: bytes, filling: bytes, content: bytes) -> bytes:
    return kind + filling * (256 - len(kind) - 1 - len(content)) + b"\0" + content


PADDINGS = {
    "right, 31 bytes": block(b"\0\2", b"\7", bytes(31)),
    "right, 33 bytes": block(b"\0\2", b"\7", bytes(33)),
    "right, another key": block(b"\0\2", b"\7", bytes(32)),
    "block type 1": block(b"\0\1", b"\xff", bytes(32)),
    "no zero byte": b"\0\2" + b"\7" * 254,
    "short filling": b"\0\2\0" + b"\7" * 253,
    "nothing at all": bytes(256),
}


@pytest.mark.parametrize("padded", PADDINGS.values(), ids=PADDINGS)
@pytest.mark.parametrize("sealer", [seal, seal_legacy])
def test_wrong_padding_and_wrong_key_cannot_be_told_apart(
    padded: bytes, sealer: Callable[..., dict[str, str]]
) -> None:
    jwe = sealer(KEY.public_jwk(), PLAINTEXT)
    with pytest.raises(JweError) as caught:
        opened(jwe | {"encrypted_key": b64u(encrypted(padded))})
    assert str(caught.value) == OPAQUE
    assert caught.value.__cause__ is None
    # unwrap() itself does not fail, and gives something that cannot be foretold.
    first = KEY.unwrap("RSA1_5", None, encrypted(padded))
    assert len(first) == 32
    assert padded is PADDINGS["right, another key"] or first != bytes(32)


@pytest.mark.parametrize("length", [0, 1, 255, 257, 1024])
def test_an_encrypted_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(JweError) as caught:
        opened(seal_legacy(KEY.public_jwk(), b"x") | {"encrypted_key": b64u(os.urandom(length))})
    assert str(caught.value) == OPAQUE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"tag": "QUJDREVGR0hJSktMTU5PUA"}, "tag in the ciphertext", id="with a tag"),
        pytest.param({"tag": None}, "'tag' is missing", id="no tag member"),
        pytest.param({"ciphertext": "QUJD"}, "tag of 16", id="shorter than a tag"),
        pytest.param({"iv": "QUJD"}, "iv of 12", id="short iv"),
        pytest.param({"protected": "{"}, "not JSON", id="cut header"),
        pytest.param({"protected": '{"alg":"\ud800"}'}, "not UTF-8", id="surrogate"),
        pytest.param({"protected": '{"alg":"RSA1_5"}'}, "enc must be", id="no enc"),
        pytest.param(
            {"protected": '{"alg":"RSA1_5","enc":"A256GCM","enc":"A256GCM"}'}, "twice", id="twice"
        ),
        pytest.param(
            {"protected": '{"alg":"RSA-OAEP-256","enc":"A256GCM"}'}, "RSA1_5 only", id="OAEP"
        ),
        pytest.param({"protected": '{"zip":"DEF"}'}, "'zip'", id="zip"),
        pytest.param({"protected": "{" + " " * 4096}, "too long", id="long header"),
    ],
)
def test_malformed_legacy_forms_are_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(JweFormatError, match=reason):
        opened(seal_legacy(KEY.public_jwk(), PLAINTEXT) | changes)


def test_the_legacy_form_has_no_other_additional_data() -> None:
    jwe = seal_legacy(KEY.public_jwk(), PLAINTEXT, content_key=bytes(32))
    sealed = AESGCM(bytes(32)).encrypt(unb64u(jwe["iv"]), PLAINTEXT, jwe["protected"].encode())
    with pytest.raises(JweError):
        opened(jwe | {"ciphertext": b64u(sealed)})


def test_oaep_does_not_tell_padding_from_tag_either() -> None:
    key = OTHERS[TeeKeyAlgorithm.RSA_OAEP_256]
    first, second = (key.unwrap("RSA-OAEP-256", None, bytes(255) + b"\2") for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second


@settings(max_examples=100)
@given(st.binary(max_size=300) | st.binary(min_size=256, max_size=256))
def test_any_encrypted_key_ends_in_the_one_opaque_error(encrypted_key: bytes) -> None:
    jwe = seal_legacy(KEY.public_jwk(), PLAINTEXT)
    with pytest.raises(JweError) as caught:
        opened(jwe | {"encrypted_key": b64u(encrypted_key)})
    assert str(caught.value) == OPAQUE


HEADER = st.text('{}":,RSA1_5algenc\ud800', max_size=24).map(lambda text: "{" + text)


@given(HEADER, st.text("abAB01-_", max_size=40), st.sampled_from(["", "QQ"]))
def test_any_legacy_members_end_in_our_error(protected: str, sealed: str, tag: str) -> None:
    members = {"protected": protected, "ciphertext": sealed, "tag": tag}
    with pytest.raises(JweError):
        opened(members | {"iv": "A" * 16, "encrypted_key": ""})


def test_names_of_kinds() -> None:
    assert TeeKeyAlgorithm.named("RSA1_5") is TeeKeyAlgorithm.RSA1_5
    assert TeeKeyAlgorithm.named("ML-KEM-768+A192KW") is TeeKeyAlgorithm.ML_KEM_768
    with pytest.raises(TeeKeyError, match="'ML-KEM-512' is unknown"):
        TeeKeyAlgorithm.named("ML-KEM-512")
    with pytest.raises(TeeKeyError, match="'rsa' is unknown"):
        TeeKeyAlgorithm.named("rsa")


def test_short_rsa_keys_are_refused() -> None:
    with pytest.raises(TeeKeyError, match="1024 bits"):
        TeeKey(rsa.generate_private_key(65537, 1024))
