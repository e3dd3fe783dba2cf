"""Opening what is encrypted under a key of 32 bytes: AES-256-GCM, or CTR."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keywrap.packet import WrapType
from secrecy import Secret

TAG_BYTES: Final = 16


def open_content(wrap_type: WrapType, key: Secret, iv: bytes, data: bytes) -> Secret | None:
    """Return what ``data`` holds, or None if it does not authenticate, as only A256GCM can tell.

    ``iv`` has the length of ``wrap_type``. Raises ``ValueError`` for a key of no length of AES.
    """
    if wrap_type is WrapType.A256CTR:
        cipher = Cipher(algorithms.AES256(key.reveal()), modes.CTR(iv)).decryptor()
        return Secret(cipher.update(data) + cipher.finalize())
    if len(data) < TAG_BYTES:
        return None
    try:
        return Secret(AESGCM(key.reveal()).decrypt(iv, data, None))
    except InvalidTag:
        return None
