"""Makes JWEs and tokens as a KBS does, from the RFCs alone: shares no code with ``kbs``."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.wire.keccak import kmac256

CURVES: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-521": ec.SECP521R1()}


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def seal(
    tee_pubkey: Mapping[str, str],
    plaintext: bytes,
    *,
    header: Mapping[str, object] | None = None,
    content_key: bytes | None = None,
    wrapped_key: bytes | None = None,
) -> dict[str, str]:
    """Seal for a public JWK; ``header`` adds or replaces protected members.

    ``wrapped_key`` is wrapped in the place of the key that seals.
    """
    sealing_key = os.urandom(32) if content_key is None else content_key
    cek = sealing_key if wrapped_key is None else wrapped_key
    if tee_pubkey["kty"] == "RSA":
        protected: dict[str, object] = {"alg": tee_pubkey["alg"], "enc": "A256GCM"}
        wrapped = _wrap_rsa(tee_pubkey, cek)
    elif tee_pubkey["kty"] == "AKP":
        wrapped, ek = _wrap_ml_kem(tee_pubkey, cek)
        protected = {"alg": tee_pubkey["alg"], "enc": "A256GCM", "ek": ek}
    else:
        wrapped, epk = _wrap_ec(tee_pubkey, cek)
        protected = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "epk": epk}
    protected |= header or {}
    text = b64u(json.dumps(protected, separators=(",", ":")).encode())
    iv = os.urandom(12)
    sealed = AESGCM(sealing_key).encrypt(iv, plaintext, text.encode())
    return {
        "protected": text,
        "encrypted_key": b64u(wrapped),
        "iv": b64u(iv),
        "ciphertext": b64u(sealed[:-16]),
        "tag": b64u(sealed[-16:]),
    }


def seal_legacy(
    tee_pubkey: Mapping[str, str], plaintext: bytes, *, content_key: bytes | None = None
) -> dict[str, str]:
    """Seal as a KBS of protocol 0.1.x: header as JSON text, tag in the ciphertext, no AAD."""
    cek = os.urandom(32) if content_key is None else content_key
    iv = os.urandom(12)
    return {
        "protected": '{"alg":"RSA1_5","enc":"A256GCM"}',
        "encrypted_key": b64u(_wrap_rsa(tee_pubkey, cek)),
        "iv": b64u(iv),
        "ciphertext": b64u(AESGCM(cek).encrypt(iv, plaintext, None)),
        "tag": "",
    }


def _wrap_rsa(jwk: Mapping[str, str], cek: bytes) -> bytes:
    numbers = rsa.RSAPublicNumbers(
        int.from_bytes(unb64u(jwk["e"]), "big"), int.from_bytes(unb64u(jwk["n"]), "big")
    )
    if jwk["alg"] == "RSA1_5":
        return numbers.public_key().encrypt(cek, padding.PKCS1v15())
    oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
    return numbers.public_key().encrypt(cek, oaep)


def _wrap_ml_kem(jwk: Mapping[str, str], cek: bytes) -> tuple[bytes, str]:
    recipient = mlkem.MLKEM768PublicKey.from_public_bytes(unb64u(jwk["pub"]))
    shared, ciphertext = recipient.encapsulate()
    kek = kmac256(shared, b"\0\0\0\x11ML-KEM-768+A192KW\0\0\0\xc0", 24)
    return aes_key_wrap(kek, cek), b64u(ciphertext)


def _wrap_ec(jwk: Mapping[str, str], cek: bytes) -> tuple[bytes, dict[str, str]]:
    curve = CURVES[jwk["crv"]]
    width = (curve.key_size + 7) // 8
    recipient = ec.EllipticCurvePublicNumbers(
        int.from_bytes(unb64u(jwk["x"]), "big"), int.from_bytes(unb64u(jwk["y"]), "big"), curve
    ).public_key()
    ephemeral = ec.generate_private_key(curve)
    z = ephemeral.exchange(ec.ECDH(), recipient)
    # RFC 7518 4.6.2 by hand: one round of SHA-256 over counter, Z and OtherInfo.
    alg = b"ECDH-ES+A256KW"
    other = len(alg).to_bytes(4, "big") + alg + bytes(8) + (256).to_bytes(4, "big")
    kek = hashlib.sha256((1).to_bytes(4, "big") + z + other).digest()
    point = ephemeral.public_key().public_numbers()
    epk = {
        "crv": jwk["crv"],
        "kty": "EC",
        "x": b64u(point.x.to_bytes(width, "big")),
        "y": b64u(point.y.to_bytes(width, "big")),
    }
    return aes_key_wrap(kek, cek), epk


def make_token(claims: Mapping[str, object], *, signature: bytes = b"not verified here") -> str:
    """A JWT whose signature nobody in the guest looks at."""
    header = b64u(b'{"alg":"ES256","typ":"JWT"}')
    return f"{header}.{b64u(json.dumps(claims).encode())}.{b64u(signature)}"
