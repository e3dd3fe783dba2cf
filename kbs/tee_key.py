"""The ephemeral TEE key of one attested session: made here, bound by a quote, never stored.

Owns key generation, the public form that enters the handshake, the PEM form that the attestation
agent hands to the data hub, and unwrapping of content keys (RFC 7518 4.2, 4.3 and 4.6; ML-KEM in
:mod:`kbs.ml_kem`). The envelope around a wrapped key is the business of :mod:`kbs.jwe`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidKey, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kbs.errors import JweError, TeeKeyError
from kbs.ml_kem import ML_KEM_768, unwrap_ml_kem
from kbs.peer_json import PeerTextError, decode_base64url, encode_base64url
from secrecy import Secret

ECDH_ES_A256KW: Final = "ECDH-ES+A256KW"
RSA_OAEP_256: Final = "RSA-OAEP-256"
RSA1_5: Final = "RSA1_5"

CEK_BYTES: Final = 32  # A256GCM
WRAPPED_CEK_BYTES: Final = CEK_BYTES + 8  # RFC 3394 adds one block
RSA_BITS: Final = 2048  # what KBS protocol 0.4.0 clients make
MAX_PEM_BYTES: Final = 16 * 1024

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | MLKEM768PrivateKey

_CURVE_NAMES: Final = {"secp256r1": "P-256", "secp521r1": "P-521"}
# RFC 7518 4.6.2: AlgorithmID, PartyUInfo and PartyVInfo (both empty), SuppPubInfo = 256 bits.
_OTHER_INFO: Final = (
    len(ECDH_ES_A256KW).to_bytes(4, "big")
    + ECDH_ES_A256KW.encode()
    + bytes(4)
    + bytes(4)
    + (256).to_bytes(4, "big")
)
_PKCS1: Final = padding.PKCS1v15()
# RFC 8017 7.1 with SHA-256 for both the label and MGF1, as RFC 7518 4.3 demands.
_OAEP: Final = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


class TeeKeyAlgorithm(StrEnum):
    """Kinds of TEE key, under the names of the reference's ``tee_key_algorithm`` setting.

    ``RSA1_5`` is the only kind that KBS protocols 0.1.0 and 0.1.1 know, and deprecated since.
    ``ML-KEM-768+A192KW`` is experimental: only ``pqc`` builds of Trustee know it.
    """

    EC_P256 = "ECDH-ES+A256KW-P256"
    EC_P521 = "ECDH-ES+A256KW-P521"
    RSA_OAEP_256 = "RSA-OAEP-256"
    RSA1_5 = "RSA1_5"
    ML_KEM_768 = ML_KEM_768

    @classmethod
    def named(cls, name: str) -> TeeKeyAlgorithm:
        """Return the kind of that name. Raises :class:`~kbs.errors.TeeKeyError`."""
        try:
            return cls(name)
        except ValueError:
            raise TeeKeyError(f"kind of key {name[:40]!r} is unknown") from None


class TeeKey:
    """A private key that lives as long as its session. Prints as its kind only."""

    __slots__ = ("_header_algorithms", "_private", "algorithm")

    def __init__(
        self,
        private: _PrivateKey,
        algorithm: TeeKeyAlgorithm | None = None,
    ) -> None:
        """Take over ``private``. Raises :class:`~kbs.errors.TeeKeyError` for another kind.

        ``algorithm`` is for RSA, whose key does not tell the padding. Without it the key opens
        both, as the reference's keys do.
        """
        inferred = _algorithm_of(private)
        self._private = private
        self.algorithm = inferred if algorithm is None else algorithm
        self._header_algorithms = (
            (RSA_OAEP_256, RSA1_5)
            if algorithm is None and isinstance(private, rsa.RSAPrivateKey)
            else (_HEADER_ALGORITHMS[self.algorithm],)
        )

    @classmethod
    def generate(cls, algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.EC_P256) -> TeeKey:
        """Make a fresh key. EC takes microseconds, RSA about 0.1 s of CPU (use a thread).

        Raises :class:`~kbs.errors.TeeKeyError` for ML-KEM with an OpenSSL that has none.
        """
        match algorithm:
            case TeeKeyAlgorithm.EC_P256:
                return cls(ec.generate_private_key(ec.SECP256R1()))
            case TeeKeyAlgorithm.EC_P521:
                return cls(ec.generate_private_key(ec.SECP521R1()))
            case TeeKeyAlgorithm.RSA_OAEP_256 | TeeKeyAlgorithm.RSA1_5:
                return cls(rsa.generate_private_key(65537, RSA_BITS), algorithm)
            case TeeKeyAlgorithm.ML_KEM_768:
                return cls(_generate_ml_kem())

    @classmethod
    def from_pem(cls, pem: Secret) -> TeeKey:
        """Read the PEM form of :meth:`to_pem`. Raises :class:`~kbs.errors.TeeKeyError`.

        The PEM of an RSA key does not say its padding: such a key opens either.
        """
        if len(pem) > MAX_PEM_BYTES:
            raise TeeKeyError(f"the PEM is longer than {MAX_PEM_BYTES} bytes")
        try:
            private = load_pem_private_key(pem.reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Without "from": the parser's message may quote the key text.
            raise TeeKeyError("the PEM does not hold an unencrypted private key") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise TeeKeyError(f"a {type(private).__name__} is not a TEE key")
        return cls(private)

    def to_pem(self) -> Secret:
        """Return the PEM form that the reference parser takes: EC as PKCS#8, RSA as PKCS#1.

        Raises :class:`~kbs.errors.TeeKeyError` for ML-KEM, for which that parser has none.
        """
        if isinstance(self._private, MLKEM768PrivateKey):
            raise TeeKeyError(
                f"a key of kind {ML_KEM_768} cannot be handed over: it has no agreed PEM form",
                attempted="handing a session to another process",
                hint="run cguestd, which needs no hand-over, or set another tee_key_algorithm",
            )
        form = (
            PrivateFormat.TraditionalOpenSSL
            if isinstance(self._private, rsa.RSAPrivateKey)
            else PrivateFormat.PKCS8
        )
        return Secret(self._private.private_bytes(Encoding.PEM, form, NoEncryption()))

    def public_jwk(self) -> dict[str, str]:
        """Return the ``tee-pubkey`` of the KBS protocol.

        Exactly these members: the KBS re-serialises what it knows before hashing, so any other
        member would break the binding between key and quote.
        """
        if isinstance(self._private, MLKEM768PrivateKey):
            raw = self._private.public_key().public_bytes_raw()
            return {"kty": "AKP", "alg": ML_KEM_768, "pub": encode_base64url(raw)}
        public = self._private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            rsa_numbers = public.public_numbers()
            return {
                "kty": "RSA",
                "alg": _HEADER_ALGORITHMS[self.algorithm],
                "n": encode_base64url(_big_endian(rsa_numbers.n)),
                "e": encode_base64url(_big_endian(rsa_numbers.e)),
            }
        numbers = public.public_numbers()
        width = (public.curve.key_size + 7) // 8  # leading zeros are part of the form
        return {
            "kty": "EC",
            "crv": _CURVE_NAMES[public.curve.name],
            "alg": ECDH_ES_A256KW,
            "x": encode_base64url(numbers.x.to_bytes(width, "big")),
            "y": encode_base64url(numbers.y.to_bytes(width, "big")),
        }

    def unwrap(
        self,
        alg: str,
        epk: Mapping[str, object] | None,
        encrypted_key: bytes,
        *,
        ek: str | None = None,
    ) -> bytes:
        """Return the content key that was wrapped for this key, 32 bytes.

        ``alg``, ``epk`` and ``ek`` come from the protected header. Raises
        :class:`~kbs.errors.JweError`, always the same one, whatever failed. With RSA, a key that
        cannot be unwrapped is answered with a random one, so that only the authentication tag
        fails.
        """
        if alg not in self._header_algorithms:
            raise JweError
        private = self._private
        if not isinstance(private, rsa.RSAPrivateKey):
            if len(encrypted_key) != WRAPPED_CEK_BYTES:
                raise JweError
            content_key = (
                unwrap_ml_kem(private, ek, encrypted_key)
                if isinstance(private, MLKEM768PrivateKey)
                else _unwrap_ecdh(private, epk, encrypted_key)
            )
        elif len(encrypted_key) != (private.key_size + 7) // 8:
            raise JweError
        else:
            scheme = _PKCS1 if alg == RSA1_5 else _OAEP
            content_key = _unwrap_rsa(private, scheme, encrypted_key)
        if len(content_key) != CEK_BYTES:
            raise JweError
        return content_key

    def __repr__(self) -> str:
        return f"TeeKey({self.algorithm.value})"


_HEADER_ALGORITHMS: Final = {
    TeeKeyAlgorithm.EC_P256: ECDH_ES_A256KW,
    TeeKeyAlgorithm.EC_P521: ECDH_ES_A256KW,
    TeeKeyAlgorithm.RSA_OAEP_256: RSA_OAEP_256,
    TeeKeyAlgorithm.RSA1_5: RSA1_5,
    TeeKeyAlgorithm.ML_KEM_768: ML_KEM_768,
}


def _generate_ml_kem() -> MLKEM768PrivateKey:
    try:
        return MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:
        raise TeeKeyError(
            f"this build of OpenSSL has no {ML_KEM_768}",
            attempted="making a TEE key",
            hint="use the locked wheel of cryptography, or set another tee_key_algorithm",
        ) from None


def _algorithm_of(private: _PrivateKey) -> TeeKeyAlgorithm:
    if isinstance(private, MLKEM768PrivateKey):
        return TeeKeyAlgorithm.ML_KEM_768
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < RSA_BITS:
            raise TeeKeyError(f"RSA with {private.key_size} bits, expected at least {RSA_BITS}")
        return TeeKeyAlgorithm.RSA_OAEP_256
    match private.curve.name:
        case "secp256r1":
            return TeeKeyAlgorithm.EC_P256
        case "secp521r1":
            return TeeKeyAlgorithm.EC_P521
        case other:
            raise TeeKeyError(f"curve {other} is not supported")


def _unwrap_rsa(
    private: rsa.RSAPrivateKey, scheme: padding.AsymmetricPadding, encrypted_key: bytes
) -> bytes:
    """RFC 7518 4.2 and 4.3, without telling anybody whether the padding was right.

    As RFC 7516 11.5 wants it, a random key goes on in the place of one that cannot be unwrapped;
    it is made before the outcome is known. OpenSSL from 3.2 on does the same for PKCS #1 v1.5
    (implicit rejection): bad padding there yields random bytes of a random length.
    """
    substitute = os.urandom(CEK_BYTES)
    try:
        content_key = private.decrypt(encrypted_key, scheme)
    except ValueError:
        return substitute
    return content_key if len(content_key) == CEK_BYTES else substitute


def _unwrap_ecdh(
    private: ec.EllipticCurvePrivateKey,
    epk: Mapping[str, object] | None,
    encrypted_key: bytes,
) -> bytes:
    """RFC 7518 4.6: ECDH-ES, one round of Concat KDF, then RFC 3394 unwrap."""
    if epk is None:
        raise JweError
    try:
        shared = private.exchange(ec.ECDH(), _public_point(private.curve, epk))
        wrapping_key = ConcatKDFHash(SHA256(), CEK_BYTES, _OTHER_INFO).derive(shared)
        return aes_key_unwrap(wrapping_key, encrypted_key)
    except (InvalidUnwrap, InvalidKey, ValueError):
        raise JweError from None


def _public_point(curve: ec.EllipticCurve, epk: Mapping[str, object]) -> ec.EllipticCurvePublicKey:
    """Build the sender's point. Raises ``ValueError`` if it is not one of our curve."""
    x_text, y_text = epk.get("x"), epk.get("y")
    if (
        epk.get("kty") != "EC"
        or epk.get("crv") != _CURVE_NAMES[curve.name]
        or not isinstance(x_text, str)
        or not isinstance(y_text, str)
    ):
        raise PeerTextError("epk is not a key of this curve")
    x, y = decode_base64url(x_text), decode_base64url(y_text)
    width = (curve.key_size + 7) // 8
    if len(x) != width or len(y) != width:
        raise PeerTextError("epk coordinates are not of the curve's width")
    # public_key() refuses points that are not on the curve.
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve
    ).public_key()


def _big_endian(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
