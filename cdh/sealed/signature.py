"""Checking that a sealed secret was made by the holder of the key it names (JWS, ES256).

The order is: algorithm, then key, then signature. The payload is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cdh.errors import SealedAlgorithmError, SealedFormatError, SealedSignatureError
from cdh.sealed.keys import SigningKeys
from cdh.sealed.textual import SealedText, decode_section

ALGORITHM: Final = "ES256"
SIGNATURE_BYTES: Final = 64  # r and s, 32 bytes each (RFC 7518, 3.4); DER is another format


class ProtectedHeader(msgspec.Struct):
    """The members of the protected header that decide something (RFC 7515, 4.1)."""

    alg: str
    kid: str
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def parse_header(section: str) -> ProtectedHeader:
    """Parse the protected header; judge ``alg`` and ``crit`` before any key is sought.

    Raises :class:`SealedFormatError` or :class:`SealedAlgorithmError`.
    """
    try:
        header = msgspec.json.decode(decode_section("header", section), type=ProtectedHeader)
    except (SealedFormatError, msgspec.MsgspecError, UnicodeDecodeError):
        raise SealedFormatError(
            "header",
            "not base64url of a JSON object with the texts alg and kid",
            hint="unsigned secrets of older tools need skip_sealed_secret_verification",
        ) from None
    if header.alg != ALGORITHM:
        raise SealedAlgorithmError(header.alg)
    if header.crit is not msgspec.UNSET:
        # RFC 7515, 4.1.11: what is marked critical must be understood, and we understand none.
        raise SealedFormatError("header", "critical extensions (crit) are not supported")
    return header


def verify_signature(text: SealedText, kid: str, key: ec.EllipticCurvePublicKey) -> None:
    """Check the signature over the sections as received. Raises :class:`SealedSignatureError`."""
    signature = decode_section("signature", text.signature)
    if len(signature) != SIGNATURE_BYTES:
        raise SealedSignatureError(
            kid, f"{len(signature)} bytes long, expected {SIGNATURE_BYTES} (r and s)"
        )
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), text.signing_input, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SealedSignatureError(kid, "does not hold") from error


@dataclass(frozen=True, slots=True)
class SignatureVerifier:
    """Authenticates sealed texts with keys found by ``kid``."""

    keys: SigningKeys

    async def verify(self, text: SealedText) -> None:
        """Return if the signature holds.

        Raises :class:`~cdh.errors.SealedSecretError`, or what fetching the key raises.
        """
        header = parse_header(text.header)
        key = await self.keys.find(header.kid)
        verify_signature(text, header.kid, key)
