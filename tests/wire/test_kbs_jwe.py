"""JWE as a KBS sends it: recorded and freshly sealed ones open, every other one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbs import JweError, JweFormatError, TeeKey, TeeKeyAlgorithm, TeeKeyError
from kbs.jwe import open_jwe, parse_jwe
from secrecy import Secret
from tests.wire.kbs_sealing import b64u, seal, unb64u

KEYS = {algorithm: TeeKey.generate(algorithm) for algorithm in TeeKeyAlgorithm}
P256 = KEYS[TeeKeyAlgorithm.EC_P256]
# What can be handed to another process.
PORTABLE = [kind for kind in TeeKeyAlgorithm if kind is not TeeKeyAlgorithm.ML_KEM_768]
PLAINTEXT = b"top secret payload"
OPAQUE = str(JweError())


def opened(jwe: object, key: TeeKey = P256) -> bytes:
    return open_jwe(parse_jwe(json.dumps(jwe).encode()), key).reveal()


@pytest.fixture
def vectors(shared_vectors: Path) -> Path:
    return shared_vectors / "kbs/jwe"


def recorded_keys(vectors: Path) -> dict[str, TeeKey]:
    keys = json.loads((vectors / "tee-keys.json").read_text())
    loaded = {name: TeeKey.from_pem(Secret(k["tee_keypair_pem"])) for name, k in keys.items()}
    for name, key in loaded.items():
        if name != "rsa1_5":  # the PEM does not tell
            assert key.public_jwk() == keys[name]["public_jwk"]
        assert key.to_pem().reveal_text() == keys[name]["tee_keypair_pem"]
    return loaded


def test_recorded_responses_open(vectors: Path) -> None:
    keys = recorded_keys(vectors)
    names = []
    for case in json.loads((vectors / "responses.json").read_text())["cases"]:
        assert opened(case["jwe"], keys[case["key"]]) == case["expected_plaintext"].encode()
        names.append(case["name"])
    for case in json.loads((vectors / "legacy-responses.json").read_text())["cases"]:
        assert opened(case["jwe"], keys[case["key"]]) == case["expected_plaintext"].encode()
        names.append(case["name"])
    kinds = {"ec-p256", "ec-p521", "rsa-oaep-256", "rsa1_5", "rsa1_5-legacy", "empty-plaintext"}
    assert kinds <= set(names)


def test_recorded_bad_responses_are_refused(vectors: Path) -> None:
    keys = recorded_keys(vectors)
    cases = json.loads((vectors / "negative.json").read_text())["cases"]
    assert len(cases) > 15
    for case in cases:
        with pytest.raises(JweError):
            opened(case["jwe"], keys[case["key"]])


def test_where_the_reference_differs_the_rfc_is_followed(vectors: Path) -> None:
    keys = recorded_keys(vectors)
    for case in json.loads((vectors / "divergent.json").read_text())["cases"]:
        # apu and apv are legal and never sent: refused rather than supported.
        if case["rfc7516"] == "decrypts":
            assert opened(case["jwe"], keys[case["key"]]) == PLAINTEXT
        else:
            with pytest.raises(JweFormatError):
                opened(case["jwe"], keys[case["key"]])


@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_every_key_kind_opens_what_is_sealed_for_it(algorithm: TeeKeyAlgorithm) -> None:
    key = KEYS[algorithm]
    for plaintext in (b"", b"x", bytes(range(256)) * 300):
        assert opened(seal(key.public_jwk(), plaintext), key) == plaintext


@pytest.mark.parametrize("algorithm", PORTABLE)
def test_pem_round_trip(algorithm: TeeKeyAlgorithm) -> None:
    key = KEYS[algorithm]
    again = TeeKey.from_pem(key.to_pem())
    assert again.to_pem().matches(key.to_pem())
    # An RSA key's PEM does not tell the padding; such a key opens both.
    told = algorithm is not TeeKeyAlgorithm.RSA1_5
    assert again.algorithm is (algorithm if told else TeeKeyAlgorithm.RSA_OAEP_256)
    assert repr(again) == f"TeeKey({again.algorithm.value})"
    assert opened(seal(key.public_jwk(), PLAINTEXT), again) == PLAINTEXT


def test_coordinates_keep_their_leading_zeros() -> None:
    for _ in range(600):  # about two of them have a zero byte in front
        jwk = TeeKey.generate().public_jwk()
        assert len(unb64u(jwk["x"])) == len(unb64u(jwk["y"])) == 32
    for _ in range(20):
        jwk = TeeKey.generate(TeeKeyAlgorithm.EC_P521).public_jwk()
        assert len(unb64u(jwk["x"])) == len(unb64u(jwk["y"])) == 66


def test_the_public_form_has_exactly_the_members_the_kbs_hashes() -> None:
    assert set(P256.public_jwk()) == {"kty", "crv", "alg", "x", "y"}
    for algorithm in (TeeKeyAlgorithm.RSA_OAEP_256, TeeKeyAlgorithm.RSA1_5):
        jwk = KEYS[algorithm].public_jwk()
        assert set(jwk) == {"kty", "alg", "n", "e"}
        assert jwk["alg"] == algorithm.value


def epk_with(**changes: str) -> Callable[[], dict[str, str]]:
    def build() -> dict[str, str]:
        good = seal(P256.public_jwk(), PLAINTEXT)
        header = json.loads(unb64u(good["protected"]))
        header["epk"] |= changes
        return good | {"protected": b64u(json.dumps(header).encode())}

    return build


BAD_EPKS = {
    "other curve": epk_with(**KEYS[TeeKeyAlgorithm.EC_P521].public_jwk()),
    "curve renamed": epk_with(crv="P-521"),
    "off the curve": epk_with(x=b64u(bytes(31) + b"\x05"), y=b64u(bytes(31) + b"\x05")),
    "point at infinity": epk_with(x=b64u(bytes(32)), y=b64u(bytes(32))),
    "short x": epk_with(x=b64u(bytes(31))),
    "long x": epk_with(x=b64u(bytes(33))),
    "beyond the field": epk_with(x=b64u(b"\xff" * 32)),
    "padded x": epk_with(x=b64u(bytes(32)) + "="),
    "kty OKP": epk_with(kty="OKP"),
    "another good point": epk_with(**TeeKey.generate().public_jwk()),
}


@pytest.mark.parametrize("build", BAD_EPKS.values(), ids=BAD_EPKS)
def test_bad_ephemeral_keys_fail_in_the_one_opaque_way(build: Callable[[], object]) -> None:
    with pytest.raises(JweError) as caught:
        opened(build())
    assert str(caught.value) == OPAQUE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"alg": "RSA-OAEP-256"}, id="alg of another key kind"),
        pytest.param({"alg": "ECDH-ES"}, id="direct agreement"),
        pytest.param({"alg": "dir"}, id="dir"),
        pytest.param({"alg": "none"}, id="none"),
        pytest.param({"alg": "RSA1_5"}, id="RSA1_5"),
        pytest.param({"alg": "ML-KEM-768+A192KW"}, id="ML-KEM"),
        pytest.param({"epk": None}, id="no epk"),
    ],
)
def test_other_key_management_fails_in_the_one_opaque_way(changes: dict[str, object]) -> None:
    with pytest.raises(JweError) as caught:
        opened(seal(P256.public_jwk(), PLAINTEXT, header=changes))
    assert str(caught.value) == OPAQUE


@pytest.mark.parametrize("member", ["encrypted_key", "iv", "ciphertext", "tag", "protected"])
@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_one_flipped_bit_anywhere_is_noticed(member: str, algorithm: TeeKeyAlgorithm) -> None:
    key = KEYS[algorithm]
    good = seal(key.public_jwk(), PLAINTEXT)
    data = bytearray(unb64u(good[member]))
    data[len(data) // 2] ^= 1
    with pytest.raises(JweError):
        opened(good | {member: b64u(bytes(data))}, key)


@pytest.mark.parametrize(
    ("algorithm", "cek_bytes"),
    [
        (TeeKeyAlgorithm.EC_P256, 16),
        (TeeKeyAlgorithm.RSA_OAEP_256, 16),
        (TeeKeyAlgorithm.RSA1_5, 16),
    ],
)
def test_a_content_key_of_another_length_is_refused(
    algorithm: TeeKeyAlgorithm, cek_bytes: int
) -> None:
    key = KEYS[algorithm]
    with pytest.raises(JweError) as caught:
        opened(seal(key.public_jwk(), PLAINTEXT, content_key=bytes(cek_bytes)), key)
    assert str(caught.value) == OPAQUE


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param({"enc": "A128GCM"}, "enc must be", id="A128GCM"),
        pytest.param({"enc": "A256CBC-HS512"}, "enc must be", id="CBC"),
        pytest.param({"enc": 1}, "enc must be", id="enc number"),
        pytest.param({"crit": ["x"], "x": 1}, "'crit'", id="crit"),
        pytest.param({"zip": "DEF"}, "'zip'", id="zip"),
        pytest.param({"apu": "QQ"}, "'apu'", id="apu"),
        pytest.param({"apv": "QQ"}, "'apv'", id="apv"),
        pytest.param({"alg": None}, "no alg", id="no alg"),
        pytest.param({"epk": "x"}, "epk is not", id="epk string"),
        pytest.param({"ek": 1}, "ek is not", id="ek number"),
        pytest.param({"pad": "x" * 4096}, "too long", id="long header"),
    ],
)
def test_headers_that_change_the_meaning_are_refused(
    header: dict[str, object], reason: str
) -> None:
    with pytest.raises(JweFormatError, match=reason):
        opened(seal(P256.public_jwk(), PLAINTEXT, header=header))


@pytest.mark.parametrize("member", ["header", "unprotected", "recipients", "aad"])
def test_what_a_kbs_never_sends_is_refused(member: str) -> None:
    values: tuple[object, ...] = ({}, None, "text")
    for value in values:
        with pytest.raises(JweFormatError, match=member):
            opened({**seal(P256.public_jwk(), PLAINTEXT), member: value})


def test_members_without_meaning_are_ignored() -> None:
    assert opened(seal(P256.public_jwk(), PLAINTEXT, header={"kid": "x"})) == PLAINTEXT
    assert opened({**seal(P256.public_jwk(), PLAINTEXT), "note": 1}) == PLAINTEXT


@pytest.mark.parametrize("member", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text + "=", id="padding"),
        pytest.param(lambda text: text + "\n", id="white space"),
        pytest.param(lambda text: "+" + text[1:], id="standard alphabet"),
        pytest.param(lambda text: text[:-2], id="two characters short"),
        pytest.param(lambda _: 5, id="number"),
        pytest.param(lambda _: None, id="null"),
    ],
)
def test_malformed_members_are_refused(member: str, change: Callable[[str], object]) -> None:
    good = seal(P256.public_jwk(), PLAINTEXT)
    with pytest.raises(JweError):
        opened(good | {member: change(good[member])})


def test_duplicate_members_are_refused_at_both_levels() -> None:
    good = json.dumps(seal(P256.public_jwk(), PLAINTEXT))
    with pytest.raises(JweFormatError, match="twice"):
        parse_jwe((good[:-1] + ',"tag":"QQ"}').encode())
    twice = b64u(b'{"alg":"ECDH-ES+A256KW","enc":"A128GCM","enc":"A256GCM"}')
    with pytest.raises(JweFormatError, match="twice"):
        parse_jwe(json.dumps(json.loads(good) | {"protected": twice}).encode())


MEMBER: st.SearchStrategy[object] = (
    st.text("abAB01-_=+", max_size=24) | st.integers() | st.none() | st.just({})
)


@settings(max_examples=200)
@given(
    st.binary(max_size=120)
    | st.fixed_dictionaries(
        dict.fromkeys(("protected", "encrypted_key", "iv", "ciphertext", "tag"), MEMBER)
    ).map(lambda members: json.dumps(members).encode())
)
def test_any_bytes_end_in_our_error(body: bytes) -> None:
    with pytest.raises(JweError):
        open_jwe(parse_jwe(body), P256)


EPK = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "z"]),
    st.sampled_from(["EC", "P-256", b64u(bytes(32)), "QQ", "=", ""]) | st.integers() | st.none(),
)


@settings(max_examples=200)
@given(st.sampled_from(["ECDH-ES+A256KW", "x"]), st.none() | EPK, st.binary(max_size=48))
def test_any_header_values_end_in_the_one_opaque_error(
    alg: str, epk: dict[str, object] | None, encrypted_key: bytes
) -> None:
    with pytest.raises(JweError) as caught:
        P256.unwrap(alg, epk, encrypted_key)
    assert str(caught.value) == OPAQUE
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param("", id="empty"),
        pytest.param("not PEM SENTINEL", id="text"),
        pytest.param(
            "-----BEGIN PRIVATE KEY-----\nSENTINEL\n-----END PRIVATE KEY-----\n", id="no DER"
        ),
        pytest.param("SENTINEL" * 4096, id="too long"),
    ],
)
def test_bad_pem_is_refused_without_showing_it(pem: str) -> None:
    with pytest.raises(TeeKeyError) as caught:
        TeeKey.from_pem(Secret(pem))
    assert "SENTINEL" not in str(caught.value)
    assert caught.value.__cause__ is None
