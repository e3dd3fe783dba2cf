"""Opening a secret that is inside its sealed text, under a data key that a KMS unwraps.

Source: guest-components confidential-data-hub/docs/SEALED_SECRET.md, "Envelope".
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdh.errors import SealedContentError, SealedFormatError, SealedKmsError
from cdh.sealed.payload import EnvelopePayload, members_of
from kms import KmsDirectory, KmsError
from secrecy import Secret

DATA_KEY_BYTES: Final = 32
IV_BYTES: Final = {"A256GCM": 12, "A256CTR": 16}
TAG_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Sealing:
    """The binary members of an envelope, decoded and of the right lengths."""

    wrap_type: str
    encrypted_key: bytes = field(repr=False)
    encrypted_data: bytes = field(repr=False)
    iv: bytes = field(repr=False)


def parse_sealing(payload: EnvelopePayload) -> Sealing:
    """Raises :class:`SealedFormatError`, which names the member."""
    sealing = Sealing(
        payload.wrap_type,
        _decoded("encrypted_key", payload.encrypted_key),
        _decoded("encrypted_data", payload.encrypted_data),
        _decoded("iv", payload.iv),
    )
    if len(sealing.iv) != IV_BYTES[sealing.wrap_type]:
        raise SealedFormatError(
            "payload", f"iv has {len(sealing.iv)} bytes, {sealing.wrap_type} takes"
            f" {IV_BYTES[sealing.wrap_type]}",
        )  # fmt: skip
    if sealing.wrap_type == "A256GCM" and len(sealing.encrypted_data) < TAG_BYTES:
        raise SealedFormatError("payload", "encrypted_data is shorter than its tag")
    return sealing


async def open_envelope(payload: EnvelopePayload, kms: KmsDirectory) -> Secret:
    """Return the value. The KMS is asked only about an envelope that is well formed.

    Raises :class:`~cdh.errors.SealedSecretError`. Cancellation gives the request to the KMS up.
    """
    sealing = parse_sealing(payload)
    try:
        decrypter = await kms.decrypter(payload.provider, members_of(payload.provider_settings))
        data_key = await decrypter.decrypt(
            payload.key_id, sealing.encrypted_key, members_of(payload.annotations)
        )
    except KmsError as error:
        raise SealedKmsError("envelope", error) from error
    try:
        return _opened(sealing, data_key)
    finally:
        data_key.wipe()


def _opened(sealing: Sealing, data_key: Secret) -> Secret:
    if len(data_key) != DATA_KEY_BYTES:
        raise SealedContentError(f"the data key has {len(data_key)} bytes, not {DATA_KEY_BYTES}")
    if sealing.wrap_type == "A256CTR":
        # Nothing authenticates the content in this mode but the signature around the payload.
        mode = modes.CTR(sealing.iv)
        cipher = Cipher(algorithms.AES256(data_key.reveal()), mode).decryptor()
        return Secret(cipher.update(sealing.encrypted_data) + cipher.finalize())
    try:
        cipher_gcm = AESGCM(data_key.reveal())
        return Secret(cipher_gcm.decrypt(sealing.iv, sealing.encrypted_data, None))
    except InvalidTag:
        raise SealedContentError("encrypted_data does not open with the data key") from None


def _decoded(member: str, text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or base64.b64encode(data).decode("ascii") != text:
        raise SealedFormatError("payload", f"{member} is not standard base64")
    return data
