"""Sealed secrets: form, signature, payload and provider, on recorded and on made ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import (
    SealedAlgorithmError,
    SealedFormatError,
    SealedKeyError,
    SealedKmsError,
    SealedSecretError,
    SealedSignatureError,
)
from cdh.sealed.keys import SigningKeys, parse_kid, parse_public_jwk
from cdh.sealed.payload import parse_payload
from cdh.sealed.seal import SigningKey, generate_signing_key, seal_vault
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.textual import (
    MAX_BYTES,
    decode_section,
    is_sealed,
    parse_sealed_text,
)
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri, ResourceUriError
from kbs.peer_json import encode_base64url
from secrecy import Secret

VALUE = b"the value behind the vault"


@dataclass
class Resources:
    """A resource source that knows some resources and remembers what it was asked for."""

    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked.append(str(uri))
        return Secret(self.contents[str(uri)])


def unsealer(resources: Resources, directory: Path, *, verify: bool = True) -> Unsealer:
    verifier = SignatureVerifier(SigningKeys(resources, directory)) if verify else None
    return Unsealer(resources, verifier)


def load_cases(vectors: Path, name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((vectors / "kbs/sealed" / name).read_text())["cases"]
    return cases


async def test_recorded_signed_secrets_open(shared_vectors: Path, tmp_path: Path) -> None:
    for case in load_cases(shared_vectors, "signed.json"):
        key = (shared_vectors / "kbs/sealed" / case["key"]).read_bytes()
        (tmp_path / "test-key").write_bytes(key)
        resources = Resources(
            {
                "kbs:///one/2/trois": VALUE,
                "kbs:///default/signing-key/sealed-secret": key,
            }
        )
        opened = unsealer(resources, tmp_path).unseal(case["sealed"].encode())
        if case["payload"]["type"] == "envelope":
            with pytest.raises(SealedKmsError, match=r"credential file|aliyun"):
                await opened
            assert not resources.asked
        else:
            assert (await opened).reveal() == VALUE, case["name"]


async def test_recorded_bad_secrets_are_refused(shared_vectors: Path, tmp_path: Path) -> None:
    for case in load_cases(shared_vectors, "signed-negative.json"):
        key = (shared_vectors / "kbs/sealed" / case["key"]).read_bytes()
        (tmp_path / "test-key").write_bytes(key)
        resources = Resources({"kbs:///one/2/trois": VALUE, "kbs:///one/2/quatre": VALUE})
        with pytest.raises(SealedSecretError):
            await unsealer(resources, tmp_path).unseal(case["sealed"].encode())
        assert not resources.asked, case["name"]


async def test_unsigned_secrets_open_only_when_configured(
    shared_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = load_cases(shared_vectors, "textual-forms.json")
    sealed = next(c["input"] for c in forms if c["component"] == "v0.18 and later, verification on")
    resources = Resources({"kbs:///one/2/trois": VALUE})
    with pytest.raises(SealedFormatError) as caught:
        await unsealer(resources, tmp_path).unseal(sealed.encode())
    assert "skip_sealed_secret_verification" in caught.value.hint
    opened = await unsealer(resources, tmp_path, verify=False).unseal(sealed.encode())
    assert opened.reveal() == VALUE
    assert '"level":"warning"' in capsys.readouterr().err


def test_recorded_payloads(shared_vectors: Path) -> None:
    # Raised when unsealing, not when parsing: these name a provider or bad ciphertext.
    later = {"provider-unknown", "envelope-provider-kbs", "envelope-urlsafe-data"}
    for case in load_cases(shared_vectors, "payloads.json"):
        data = json.dumps(case["payload"]).encode()
        if case["expected"] == "parses" or case["name"] in later:
            assert parse_payload(data).provider == case["payload"]["provider"]
        else:
            with pytest.raises(SealedFormatError) as caught:
                parse_payload(data)
            assert caught.value.part == "payload", case["name"]


@pytest.mark.parametrize(
    "kid", ["kbs:///default/sign/key", "team-key"], ids=["kid is a resource", "kid is a file"]
)
async def test_a_secret_sealed_here_opens_here(kid: str, tmp_path: Path) -> None:
    key = generate_signing_key(kid)
    sealed = seal_vault("kbs:///a/b/c", kid=kid, private_jwk=key.private_jwk)
    assert is_sealed(sealed)
    (tmp_path / "team-key").write_bytes(key.public_jwk)
    resources = Resources({"kbs:///a/b/c": VALUE, "kbs:///default/sign/key": key.public_jwk})
    for text in (sealed, sealed + "\n", sealed + "\r\n", sealed.removeprefix("sealed.")):
        assert (await unsealer(resources, tmp_path).unseal(text.encode())).reveal() == VALUE


def test_sealing_refuses_what_no_guest_would_open() -> None:
    key = generate_signing_key("k")
    with pytest.raises(ResourceUriError):
        seal_vault("not a uri", kid="k", private_jwk=key.private_jwk)
    with pytest.raises(SealedKeyError):
        seal_vault("kbs:///a/b/c", kid="../k", private_jwk=key.private_jwk)
    with pytest.raises(SealedKeyError, match="d is missing"):
        seal_vault("kbs:///a/b/c", kid="k", private_jwk=Secret(key.public_jwk))
    other = json.loads(generate_signing_key("k").private_jwk.reveal())
    mixed = {**json.loads(key.public_jwk), "d": other["d"]}
    with pytest.raises(SealedKeyError, match="do not belong together"):
        seal_vault("kbs:///a/b/c", kid="k", private_jwk=Secret(json.dumps(mixed)))


def header_of(members: dict[str, Any]) -> str:
    return encode_base64url(json.dumps(members).encode())


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"alg": "none", "kid": "kbs:///a/b/k"}, SealedAlgorithmError),
        ({"alg": "HS256", "kid": "kbs:///a/b/k"}, SealedAlgorithmError),
        ({"alg": "ES256", "kid": "kbs:///a/b/k", "crit": ["exp"]}, SealedFormatError),
        ({"alg": "ES256", "kid": "kbs:///a/b/k", "crit": None}, SealedFormatError),
        ({"alg": "ES256", "kid": 7}, SealedFormatError),
        ({"alg": "ES256", "kid": "kbs+pkcs11:///a/b/k"}, SealedKeyError),
        ({"alg": "ES256", "kid": "http://host/a/b/k"}, SealedKeyError),
        ({"alg": "ES256", "kid": "file:///etc/passwd"}, SealedKeyError),
        ({"alg": "ES256", "kid": ""}, SealedKeyError),
        ({"alg": "ES256", "kid": "x" * 600}, SealedKeyError),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value.__name__,
)
async def test_header_is_judged_before_any_key_is_fetched(
    header: dict[str, Any], error: type[SealedSecretError], tmp_path: Path
) -> None:
    resources = Resources()
    sealed = f"sealed.{header_of(header)}.e30.{encode_base64url(bytes(64))}"
    with pytest.raises(error):
        await unsealer(resources, tmp_path).unseal(sealed.encode())
    assert not resources.asked


async def test_payload_is_not_looked_at_before_the_signature_holds(tmp_path: Path) -> None:
    key = generate_signing_key("k")
    (tmp_path / "k").write_bytes(key.public_jwk)
    header = header_of({"alg": "ES256", "kid": "k"})
    sealed = f"{header}.{encode_base64url(b'not json')}.{encode_base64url(bytes(64))}"
    with pytest.raises(SealedSignatureError):
        await unsealer(Resources(), tmp_path).unseal(sealed.encode())


async def test_key_links_may_not_leave_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    (directory / "data").mkdir(parents=True)
    key = generate_signing_key("inside")
    (directory / "data/key").write_bytes(key.public_jwk)
    (tmp_path / "outside").write_bytes(key.public_jwk)
    (directory / "inside").symlink_to("data/key")
    (directory / "leaves").symlink_to("../outside")
    keys = SigningKeys(Resources(), directory)
    await keys.find("inside")
    with pytest.raises(SealedKeyError, match="leaves"):
        await keys.find("leaves")
    with pytest.raises(SealedKeyError, match="No such file"):
        await keys.find("absent")


def altered(key: SigningKey, **members: object) -> bytes:
    jwk = {**json.loads(key.public_jwk), **members}
    return json.dumps({k: v for k, v in jwk.items() if v is not None}).encode()


@pytest.mark.parametrize(
    "members",
    [
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"alg": "ES384"},
        {"use": "enc"},
        {"x": None},
        {"x": "AA"},
        {"x": "!" * 43},
        {"y": encode_base64url(bytes(32))},
        {"x": encode_base64url(bytes(33))},
    ],
    ids=str,
)
def test_keys_that_are_no_p256_signing_keys(members: dict[str, object]) -> None:
    with pytest.raises(SealedKeyError) as caught:
        parse_public_jwk("k", altered(generate_signing_key("k"), **members))
    assert caught.value.kid == "k"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "text"),
        (b"sealed.", "text"),
        (b"sealed.a.b", "text"),
        (b"a.b.c.d", "text"),
        ("é.b.c".encode(), "text"),
        (b"a" * (MAX_BYTES + 1), "text"),
    ],
    ids=["empty", "prefix only", "two", "four", "not ascii", "too long"],
)
def test_texts_that_are_no_sealed_secret(text: bytes, part: str) -> None:
    with pytest.raises(SealedFormatError) as caught:
        parse_sealed_text(text)
    assert caught.value.part == part


@given(st.binary(max_size=300))
def test_sections_round_trip_and_have_one_text_only(data: bytes) -> None:
    text = encode_base64url(data)
    assert decode_section("payload", text) == data
    assert decode_section("header", text) == data
    for changed in (text + "=", text + "A" * (3 - len(text) % 4), " " + text, text + "\n"):
        if changed != text:
            try:
                assert decode_section("header", changed) != data
            except SealedFormatError:
                continue


@pytest.mark.parametrize("text", ["Zh", "Zm9", "Zg==", "Z+8", "Z", "Zm9v\n"])
def test_lax_base64_is_refused(text: str) -> None:
    with pytest.raises(SealedFormatError):
        decode_section("header", text)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_only_our_errors(data: bytes) -> None:
    for parse in (parse_sealed_text, parse_payload, lambda d: parse_public_jwk("k", d)):
        problem = ""
        try:
            parse(data)
        except SealedSecretError as error:
            problem = str(error)
        assert len(problem) < 400


@given(st.text(max_size=600))
def test_arbitrary_kids_give_only_our_errors(kid: str) -> None:
    try:
        found = parse_kid(kid)
    except SealedKeyError:
        return
    assert isinstance(found, ResourceUri) or "/" not in found
