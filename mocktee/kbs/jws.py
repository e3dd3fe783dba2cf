"""Compact JSON Web Signatures (RFC 7515) for tokens and admin credentials.

ES256, RS256, RS384 and EdDSA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from mocktee.kbs.encoding import Json, b64u_decode, b64u_encode, compact_json, parse_object
from mocktee.kbs.errors import MalformedError

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
VerifyingKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

MAX_TEXT: Final = 256 * 1024
_ES256: Final = ec.ECDSA(hashes.SHA256())
_RSA_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "RS256": hashes.SHA256(),
    "RS384": hashes.SHA384(),
}


@dataclass(frozen=True, slots=True)
class SignedObject:
    """A parsed JWS whose signature has not been looked at yet."""

    header: dict[str, Json]
    claims: dict[str, Json]
    signed: bytes
    signature: bytes

    @property
    def algorithm(self) -> str:
        """The ``alg`` of the header; the empty text when it has none."""
        name = self.header.get("alg")
        return name if isinstance(name, str) else ""

    def verify(self, key: VerifyingKey) -> None:
        """Check ``alg`` against the kind of key, then the signature. Raises ``ValueError``."""
        if self.algorithm not in algorithms_of(key):
            raise MalformedError("alg does not fit the key")
        try:
            match key:
                case ed25519.Ed25519PublicKey():
                    key.verify(self.signature, self.signed)
                case rsa.RSAPublicKey():
                    digest = _RSA_HASHES[self.algorithm]
                    key.verify(self.signature, self.signed, padding.PKCS1v15(), digest)
                case _:
                    key.verify(_to_der(self.signature), self.signed, _ES256)
        except InvalidSignature as error:
            raise MalformedError("signature does not verify") from error


def algorithms_of(key: VerifyingKey) -> tuple[str, ...]:
    """Return the values of ``alg`` that go with a key."""
    match key:
        case ed25519.Ed25519PublicKey():
            return ("EdDSA",)
        case rsa.RSAPublicKey():
            return tuple(_RSA_HASHES)
        case _:
            return ("ES256",)


def sign_claims(header: dict[str, Json], claims: dict[str, Json], key: SigningKey) -> str:
    """Return the compact serialisation; ``alg`` in ``header`` is the caller's to get right."""
    signed = f"{b64u_encode(compact_json(header))}.{b64u_encode(compact_json(claims))}"
    match key:
        case ed25519.Ed25519PrivateKey():
            signature = key.sign(signed.encode())
        case rsa.RSAPrivateKey():
            digest = _RSA_HASHES[str(header["alg"])]
            signature = key.sign(signed.encode(), padding.PKCS1v15(), digest)
        case _:
            r, s = decode_dss_signature(key.sign(signed.encode(), _ES256))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return f"{signed}.{b64u_encode(signature)}"


def parse_signed(text: str) -> SignedObject:
    """Split and decode a compact JWS. Raises ``ValueError``."""
    if len(text) > MAX_TEXT:
        raise MalformedError(f"a token of {len(text)} characters")
    sections = text.split(".")
    if len(sections) != 3:
        raise MalformedError(f"{len(sections)} sections instead of 3")
    header, claims, signature = sections
    return SignedObject(
        header=parse_object(b64u_decode(header)),
        claims=parse_object(b64u_decode(claims)),
        signed=f"{header}.{claims}".encode(),
        signature=b64u_decode(signature),
    )


def _to_der(signature: bytes) -> bytes:
    if len(signature) != 64:
        raise MalformedError(f"an ES256 signature of {len(signature)} bytes")
    return encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
