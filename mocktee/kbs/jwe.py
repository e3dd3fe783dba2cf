"""Encryption of a secret to a TEE key: flattened JWE (RFC 7516) as Trustee writes it.

ECDH-ES+A256KW over P-256 and P-521 (RFC 7518 4.6), RSA-OAEP-256, RSA1_5 and, as builds with the
feature ``pqc`` have it, ML-KEM-768 with a KMAC256 (NIST SP 800-185) wrapping key. The header is
compact JSON in the order ``alg``, ``enc``, ``epk``, because the reference client authenticates a
header that it re-serialises in just that order. The legacy object of protocol 0.1.x is no JWE but
looks like one: its header is not encoded and not authenticated, and its tag hangs on the
ciphertext.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from mocktee.kbs.encoding import Json, b64u_decode, b64u_encode, compact_json
from mocktee.kbs.errors import MalformedError
from mocktee.kbs.teekey import TeePublicKey

ECDH_ES_A256KW: Final = "ECDH-ES+A256KW"
RSA_OAEP_256: Final = "RSA-OAEP-256"
RSA1_5: Final = "RSA1_5"
ML_KEM_768: Final = "ML-KEM-768+A192KW"
_CURVES: Final[dict[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}
ALL_KINDS: Final = frozenset({RSA1_5, RSA_OAEP_256, ML_KEM_768, *_CURVES})
_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_ML_KEM_PUBLIC_SIZE: Final = 1184
_MIN_RSA_BITS: Final = 2048


def encrypt(
    key: TeePublicKey,
    plaintext: bytes,
    kinds: frozenset[str] = ALL_KINDS,
    *,
    legacy: bool = False,
) -> dict[str, Json]:
    """Return the response object for ``key``. Raises ``ValueError`` on an unusable key.

    ``kinds`` are the algorithms of RSA and AKP keys and the curves of EC keys that the server
    knows.
    """
    content_key = AESGCM.generate_key(256)
    alg = key.member("alg")
    header: dict[str, Json] = {"alg": alg, "enc": "A256GCM"}
    if key.member("kty") == "RSA" and alg in kinds:
        wrapped = _wrap_rsa(key, alg, content_key)
    elif alg == ECDH_ES_A256KW and kinds & _CURVES.keys():
        wrapped, header["epk"] = _wrap_ecdh(key, content_key, kinds)
    elif key.member("kty") == "AKP" and alg == ML_KEM_768 and alg in kinds:
        wrapped, header["ek"] = _wrap_ml_kem(key, content_key)
    else:
        raise MalformedError(f"tee-pubkey algorithm {alg[:64]!r} is not supported")
    seal = _seal_legacy if legacy else _seal
    return seal(header, wrapped, content_key, plaintext)


def _seal(
    header: dict[str, Json], wrapped: bytes, content_key: bytes, plaintext: bytes
) -> dict[str, Json]:
    protected = b64u_encode(compact_json(header))
    iv = secrets.token_bytes(_IV_SIZE)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, protected.encode("ascii"))
    return {
        "protected": protected,
        "encrypted_key": b64u_encode(wrapped),
        "iv": b64u_encode(iv),
        "ciphertext": b64u_encode(sealed[:-_TAG_SIZE]),
        "tag": b64u_encode(sealed[-_TAG_SIZE:]),
    }


def _seal_legacy(
    header: dict[str, Json], wrapped: bytes, content_key: bytes, plaintext: bytes
) -> dict[str, Json]:
    iv = secrets.token_bytes(_IV_SIZE)
    return {
        "protected": compact_json(header).decode(),
        "encrypted_key": b64u_encode(wrapped),
        "iv": b64u_encode(iv),
        "ciphertext": b64u_encode(AESGCM(content_key).encrypt(iv, plaintext, None)),
        "tag": "",
    }


def _wrap_ecdh(key: TeePublicKey, content_key: bytes, kinds: frozenset[str]) -> tuple[bytes, Json]:
    name = key.member("crv")
    curve = _CURVES.get(name) if name in kinds else None
    if curve is None:
        raise MalformedError(f"tee-pubkey curve {name[:64]!r} is not supported")
    size = (curve.key_size + 7) // 8
    peer = ec.EllipticCurvePublicNumbers(
        _number(key, "x", size), _number(key, "y", size), curve
    ).public_key()
    ephemeral = ec.generate_private_key(curve)
    # cryptography returns the x coordinate in full field length, leading zeros included.
    shared = ephemeral.exchange(ec.ECDH(), peer)
    numbers = ephemeral.public_key().public_numbers()
    epk: Json = {
        "crv": name,
        "kty": "EC",
        "x": b64u_encode(numbers.x.to_bytes(size, "big")),
        "y": b64u_encode(numbers.y.to_bytes(size, "big")),
    }
    return aes_key_wrap(_derive_key(shared), content_key), epk


def _derive_key(shared: bytes) -> bytes:
    """Concat KDF with empty party information (RFC 7518 4.6.2)."""
    name = ECDH_ES_A256KW.encode("ascii")
    other_info = len(name).to_bytes(4, "big") + name + bytes(8) + (256).to_bytes(4, "big")
    return ConcatKDFHash(hashes.SHA256(), 32, other_info).derive(shared)


def _wrap_ml_kem(key: TeePublicKey, content_key: bytes) -> tuple[bytes, Json]:
    # Imported here: a mock without such guests need not load a second library.
    from Crypto.Hash import KMAC256

    public = b64u_decode(key.member("pub"))
    if len(public) != _ML_KEM_PUBLIC_SIZE:
        raise MalformedError(
            f"tee-pubkey pub of {len(public)} bytes, expected {_ML_KEM_PUBLIC_SIZE}"
        )
    shared, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    mac = KMAC256.new(key=shared, mac_len=24)
    mac.update(struct.pack(">I", len(ML_KEM_768)) + ML_KEM_768.encode("ascii"))
    mac.update(struct.pack(">I", 192))
    return aes_key_wrap(mac.digest(), content_key), b64u_encode(ciphertext)


def _wrap_rsa(key: TeePublicKey, alg: str, content_key: bytes) -> bytes:
    modulus = int.from_bytes(b64u_decode(key.member("n")), "big")
    exponent = int.from_bytes(b64u_decode(key.member("e")), "big")
    if modulus.bit_length() < _MIN_RSA_BITS:
        raise MalformedError(f"tee-pubkey RSA modulus of {modulus.bit_length()} bits")
    public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    if alg == RSA1_5:
        return public.encrypt(content_key, padding.PKCS1v15())
    scheme = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
    return public.encrypt(content_key, scheme)


def _number(key: TeePublicKey, name: str, size: int) -> int:
    raw = b64u_decode(key.member(name))
    if len(raw) != size:
        raise MalformedError(f"tee-pubkey coordinate {name} of {len(raw)} bytes, expected {size}")
    return int.from_bytes(raw, "big")
