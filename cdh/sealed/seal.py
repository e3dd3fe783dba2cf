"""Making signing keys and sealed secrets: the operator's side of the format.

Runs where the secrets are prepared, not in the guest; the hub never calls it.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdh.errors import SealedFormatError, SealedKeyError
from cdh.sealed.envelope import DATA_KEY_BYTES
from cdh.sealed.keys import parse_kid, parse_public_jwk
from cdh.sealed.payload import VERSION
from cdh.sealed.signature import ALGORITHM
from cdh.sealed.textual import PREFIX, decode_section
from kbs import ResourceUri
from kbs.peer_json import encode_base64url
from keywrap import WrapType
from secrecy import Secret

_COORDINATE: Final = 32  # bytes, P-256


class _PrivatePart(msgspec.Struct):
    d: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A P-256 key pair as JSON Web Keys. ``public_jwk`` is what the KBS or the guest gets."""

    kid: str
    private_jwk: Secret
    public_jwk: bytes


def generate_signing_key(kid: str) -> SigningKey:
    """Make a new key pair. ``kid`` is the resource URI or file name under which guests find it.

    Raises :class:`SealedKeyError` if a guest would refuse that ``kid``.
    """
    parse_kid(kid)
    private = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    point = private.public_numbers
    public = {
        "kty": "EC",
        "crv": "P-256",
        "alg": ALGORITHM,
        "use": "sig",
        "kid": kid,
        "x": encode_base64url(point.x.to_bytes(_COORDINATE, "big")),
        "y": encode_base64url(point.y.to_bytes(_COORDINATE, "big")),
    }
    scalar = encode_base64url(private.private_value.to_bytes(_COORDINATE, "big"))
    return SigningKey(
        kid=kid,
        private_jwk=Secret(msgspec.json.encode({**public, "d": scalar})),
        public_jwk=msgspec.json.encode(public),
    )


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs: the private half of a key, and the ``kid`` that guests find the other half by."""

    kid: str
    private_jwk: Secret

    def sign(self, payload: dict[str, Any]) -> str:
        """Return ``sealed.`` text of ``payload``. Raises :class:`SealedKeyError`."""
        parse_kid(self.kid)
        header = encode_base64url(msgspec.json.encode({"alg": ALGORITHM, "kid": self.kid}))
        body = encode_base64url(msgspec.json.encode(payload))
        signature = _sign(self.kid, self.private_jwk, f"{header}.{body}".encode("ascii"))
        return f"{PREFIX}{header}.{body}.{encode_base64url(signature)}"


def vault_payload(name: str, annotations: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the payload that stands for the KBS resource ``name``.

    Raises ``kbs.ResourceUriError`` if ``name`` is no resource URI.
    """
    ResourceUri.parse(name)
    return held_payload(name, "kbs", {}, annotations)


def held_payload(
    name: str,
    provider: str,
    settings: dict[str, Any],
    annotations: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the payload that stands for the secret ``name`` of a provider."""
    return {
        "version": VERSION,
        "type": "vault",
        "name": name,
        "provider": provider,
        "provider_settings": settings,
        "annotations": annotations or {},
    }


class KeyEncrypter(Protocol):
    """A key management service that the operator may encrypt with."""

    async def encrypt(self, key_id: str, plaintext: Secret) -> tuple[bytes, bytes]:
        """Return ciphertext and iv. Raises ``kms.KmsError``."""


async def envelope_payload(
    content: Secret, key_id: str, encrypter: KeyEncrypter, provider: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the payload that holds ``content`` under a new data key, wrapped by a KMS.

    The data key never leaves this process in clear, and is wiped. Raises ``kms.KmsError``.
    """
    data_key = Secret(os.urandom(DATA_KEY_BYTES))
    iv = os.urandom(WrapType.A256GCM.iv_bytes)
    try:
        wrapped, kms_iv = await encrypter.encrypt(key_id, data_key)
        encrypted = AESGCM(data_key.reveal()).encrypt(iv, content.reveal(), None)
    finally:
        data_key.wipe()
    return {
        "version": VERSION,
        "type": "envelope",
        "key_id": key_id,
        "encrypted_key": _base64(wrapped),
        "encrypted_data": _base64(encrypted),
        "wrap_type": WrapType.A256GCM,
        "iv": _base64(iv),
        "provider": provider,
        "provider_settings": settings,
        "annotations": {"iv": _base64(kms_iv)},
    }


def seal_vault(
    name: str, *, kid: str, private_jwk: Secret, annotations: dict[str, Any] | None = None
) -> str:
    """Return ``sealed.`` text that makes a guest fetch the KBS resource ``name``.

    Raises ``kbs.ResourceUriError`` if ``name`` is no resource URI and :class:`SealedKeyError`
    if the key is not a private P-256 JWK.
    """
    return Signer(kid, private_jwk).sign(vault_payload(name, annotations))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _sign(kid: str, private_jwk: Secret, signing_input: bytes) -> bytes:
    """Return the 64 bytes r and s of an ES256 signature (RFC 7518, 3.4)."""
    content = private_jwk.reveal()
    expected = parse_public_jwk(kid, content)
    try:
        part = msgspec.json.decode(content, type=_PrivatePart)
        scalar = int.from_bytes(decode_section("d", part.d), "big")
        key = ec.derive_private_key(scalar, ec.SECP256R1())
    except (msgspec.MsgspecError, SealedFormatError, ValueError):
        raise SealedKeyError(kid, "not a private key: d is missing or unusable") from None
    if key.public_key().public_numbers() != expected.public_numbers():
        raise SealedKeyError(kid, "private and public part do not belong together")
    r, s = decode_dss_signature(key.sign(signing_input, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(_COORDINATE, "big") + s.to_bytes(_COORDINATE, "big")
