"""Opening a secret that is inside its sealed text, under a data key that a KMS unwraps.

Source: guest-components confidential-data-hub/docs/SEALED_SECRET.md, "Envelope".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cdh.errors import SealedContentError, SealedFormatError, SealedKmsError
from cdh.sealed.payload import EnvelopePayload, members_of
from keywrap import WrapType
from keywrap.content import TAG_BYTES, open_content
from keywrap.encoding import from_base64
from kms import KmsDirectory, KmsError
from secrecy import Secret

DATA_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Sealing:
    """The binary members of an envelope, decoded and of the right lengths."""

    wrap_type: WrapType
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
    takes = sealing.wrap_type.iv_bytes
    if len(sealing.iv) != takes:
        problem = f"iv has {len(sealing.iv)} bytes, {sealing.wrap_type} takes {takes}"
        raise SealedFormatError("payload", problem)
    if sealing.wrap_type is WrapType.A256GCM and len(sealing.encrypted_data) < TAG_BYTES:
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
    # Nothing but the signature around the payload authenticates what is in A256CTR.
    content = open_content(sealing.wrap_type, data_key, sealing.iv, sealing.encrypted_data)
    if content is None:
        raise SealedContentError("encrypted_data does not open with the data key")
    return content


def _decoded(member: str, text: str) -> bytes:
    data = from_base64(text)
    if not data:
        raise SealedFormatError("payload", f"{member} is not standard base64")
    return data
