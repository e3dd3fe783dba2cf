"""Sealed secrets that a KMS opens or holds: from signed text to value, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdh.errors import SealedContentError, SealedFormatError, SealedKmsError
from cdh.refusal import is_refusal
from cdh.sealed.keys import SigningKeys
from cdh.sealed.seal import Signer, SigningKey, envelope_payload, generate_signing_key
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri
from kms.aliyun.gateway import GatewayClient
from mocktee.kms import KmsClientKey
from secrecy import Secret
from tests.services.kms_rig import GATEWAY, KEY, KmsRig, kms_rig, new_client_key

VALUE = b"the value inside"
DATA_KEY = bytes(range(32))
KID = "test-key"
SETTINGS = {name: json.loads(value) for name, value in GATEWAY.items()}


class NoResources:
    async def get(self, uri: ResourceUri) -> Secret:
        raise AssertionError(f"{uri} is not needed")


@pytest.fixture(scope="module")
def client_key() -> KmsClientKey:
    return new_client_key()


@pytest.fixture(scope="module")
def signing_key() -> SigningKey:
    return generate_signing_key(KID)


@pytest_asyncio.fixture
async def rig(tmp_path: Path, client_key: KmsClientKey) -> AsyncIterator[KmsRig]:
    async with kms_rig(tmp_path, client_key) as started:
        yield started


@pytest.fixture
def unsealer(rig: KmsRig, signing_key: SigningKey, tmp_path: Path) -> Unsealer:
    (tmp_path / KID).write_bytes(signing_key.public_jwk)
    resources = NoResources()
    verifier = SignatureVerifier(SigningKeys(resources, tmp_path))
    return Unsealer(resources, verifier, rig.directory)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def envelope(rig: KmsRig, wrap_type: str = "A256GCM", data_key: bytes = DATA_KEY) -> dict[str, Any]:
    wrapped, kms_iv = rig.mock.keys.encrypt(KEY, data_key)
    if wrap_type == "A256GCM":
        iv = bytes(12)
        sealed = AESGCM(DATA_KEY).encrypt(iv, VALUE, None)
    else:
        iv = bytes(16)
        cipher = Cipher(algorithms.AES256(DATA_KEY), modes.CTR(iv)).encryptor()
        sealed = cipher.update(VALUE) + cipher.finalize()
    return {
        "version": "0.1.0", "type": "envelope", "provider": "aliyun", "key_id": KEY,
        "encrypted_key": text(wrapped), "encrypted_data": text(sealed), "wrap_type": wrap_type,
        "iv": text(iv), "provider_settings": SETTINGS, "annotations": {"iv": text(kms_iv)},
    }  # fmt: skip


def sealed(payload: dict[str, Any], key: SigningKey) -> bytes:
    return Signer(KID, key.private_jwk).sign(payload).encode()


@pytest.mark.parametrize("wrap_type", ["A256GCM", "A256CTR"])
async def test_an_envelope_opens(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey, wrap_type: str
) -> None:
    opened = await unsealer.unseal(sealed(envelope(rig, wrap_type), signing_key))
    assert opened.reveal() == VALUE


async def test_a_vault_secret_of_a_kms(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey
) -> None:
    payload = {
        "version": "0.1.0", "type": "vault", "provider": "Aliyun", "name": "database",
        "provider_settings": SETTINGS, "annotations": {},
    }  # fmt: skip
    assert (await unsealer.unseal(sealed(payload, signing_key))).reveal() == b"s3cret"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"encrypted_key": "*"}, "encrypted_key"),
        ({"encrypted_key": ""}, "encrypted_key"),
        ({"encrypted_data": "AAA="}, "shorter"),
        ({"encrypted_data": "AA"}, "encrypted_data"),
        ({"encrypted_data": "_-8="}, "encrypted_data"),
        ({"iv": text(bytes(16))}, "iv has 16 bytes"),
        ({"iv": text(bytes(11))}, "iv has 11 bytes"),
    ],
)
async def test_a_malformed_envelope_asks_nobody(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey, change: dict[str, str], problem: str
) -> None:
    payload = {**envelope(rig), **change}
    with pytest.raises(SealedFormatError, match=problem):
        await unsealer.unseal(sealed(payload, signing_key))
    assert not rig.mock.calls


async def test_a_data_key_of_another_length(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey
) -> None:
    payload = envelope(rig, data_key=DATA_KEY[:16])
    with pytest.raises(SealedContentError, match="16 bytes"):
        await unsealer.unseal(sealed(payload, signing_key))


async def test_another_data_key_does_not_open(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey
) -> None:
    payload = envelope(rig, data_key=bytes(32))
    with pytest.raises(SealedContentError) as caught:
        await unsealer.unseal(sealed(payload, signing_key))
    assert is_refusal(caught.value)


async def test_a_refusal_of_the_kms_is_told_from_an_outage(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey
) -> None:
    refused = {**envelope(rig), "key_id": "another"}
    with pytest.raises(SealedKmsError, match=r"Forbidden\.KeyNotFound") as caught:
        await unsealer.unseal(sealed(refused, signing_key))
    assert is_refusal(caught.value)
    payload = envelope(rig)
    rig.mock.answers.append((200, b"\xff\xff"))
    with pytest.raises(SealedKmsError) as caught:
        await unsealer.unseal(sealed(payload, signing_key))
    assert not is_refusal(caught.value)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_overloaded_kms_has_decided_nothing(
    rig: KmsRig,
    unsealer: Unsealer,
    signing_key: SigningKey,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr("kms.http.PAUSE_SECONDS", 0.0)
    payload = envelope(rig)
    rig.mock.answers.extend([(status, b"")] * 2)
    with pytest.raises(SealedKmsError, match=f"status {status}") as caught:
        await unsealer.unseal(sealed(payload, signing_key))
    assert not is_refusal(caught.value)


async def test_nothing_is_asked_before_the_signature_holds(rig: KmsRig, unsealer: Unsealer) -> None:
    other = generate_signing_key(KID)
    with pytest.raises(Exception, match="signature"):
        await unsealer.unseal(sealed(envelope(rig), other))
    assert not rig.mock.calls


async def test_what_the_operator_seals_the_guest_opens(
    rig: KmsRig, unsealer: Unsealer, signing_key: SigningKey
) -> None:
    client = await rig.directory.decrypter("aliyun", GATEWAY)
    assert isinstance(client, GatewayClient)
    payload = await envelope_payload(Secret(VALUE), KEY, client, "aliyun", SETTINGS)
    assert text(VALUE) not in str(payload)
    assert (await unsealer.unseal(sealed(payload, signing_key))).reveal() == VALUE
