"""Unwrapping a content key that was sent to an ML-KEM-768 key, as Trustee's ``pqc`` build sends it.

Owns the names, the lengths (FIPS 203, table 3) and the way from the KEM ciphertext to the content
key. The key itself is :mod:`kbs.tee_key`'s. Source: trustee ``kbs/src/jwe/akp.rs``.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from kbs.errors import JweError
from kbs.peer_json import decode_base64url

ML_KEM_768: Final = "ML-KEM-768+A192KW"
KEM_CIPHERTEXT_BYTES: Final = 1088
WRAPPING_KEY_BYTES: Final = 24  # A192KW
# The algorithm's name after its length, and the wrapping key's length in bits.
_KDF_INPUT: Final = (
    len(ML_KEM_768).to_bytes(4, "big")
    + ML_KEM_768.encode()
    + (8 * WRAPPING_KEY_BYTES).to_bytes(4, "big")
)


def unwrap_ml_kem(private: MLKEM768PrivateKey, ek: str | None, encrypted_key: bytes) -> bytes:
    """Return the content key; its length is for the caller to check.

    ``ek`` is the header member of that name, the KEM ciphertext as base64url. Raises
    :class:`~kbs.errors.JweError`, always the same one. A ciphertext for another key does not fail
    by itself (FIPS 203, implicit rejection): it yields a wrapping key that unwraps nothing.
    """
    try:
        ciphertext = decode_base64url(ek or "")
        if len(ciphertext) != KEM_CIPHERTEXT_BYTES:
            raise JweError
        wrapping_key = derive_wrapping_key(private.decapsulate(ciphertext))
        return aes_key_unwrap(wrapping_key, encrypted_key)
    except (InvalidUnwrap, ValueError):
        raise JweError from None


def derive_wrapping_key(shared_secret: bytes) -> bytes:
    """Return the A192KW key for an ML-KEM shared secret of 32 bytes."""
    return kmac256(shared_secret, _KDF_INPUT, WRAPPING_KEY_BYTES)


def kmac256(key: bytes, data: bytes, length: int) -> bytes:
    """Return ``length`` bytes of KMAC256 without customisation (NIST SP 800-185, section 4)."""
    # Imported here: only guests with keys of this kind pay for loading a second library.
    from Crypto.Hash import KMAC256

    return KMAC256.new(key=key, data=data, mac_len=length).digest()
