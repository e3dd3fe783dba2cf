"""The JSON inside a sealed secret, version 0.1.0: types ``vault`` and ``envelope``.

Unknown members are ignored, as the format has it; ``provider_settings`` and ``annotations`` are
required, as the reference unsealer has it although documents call one of them optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cdh.errors import SealedFormatError
from keywrap import WrapType

VERSION: Final = "0.1.0"


class VaultPayload(msgspec.Struct, tag_field="type", tag="vault"):
    """The secret lies with ``provider`` under ``name``."""

    version: str
    name: str
    provider: str
    provider_settings: dict[str, msgspec.Raw]
    annotations: dict[str, msgspec.Raw]


class EnvelopePayload(msgspec.Struct, tag_field="type", tag="envelope"):
    """The secret is inside, under a data key that ``provider`` can unwrap.

    The binary members are standard base64 with padding; they are not decoded here.
    """

    version: str
    key_id: str
    encrypted_key: str
    encrypted_data: str
    wrap_type: WrapType
    iv: str
    provider: str
    provider_settings: dict[str, msgspec.Raw]
    annotations: dict[str, msgspec.Raw]


Payload = VaultPayload | EnvelopePayload


def parse_payload(data: bytes) -> Payload:
    """Parse a decoded payload section. Raises :class:`SealedFormatError`."""
    try:
        payload: Payload = msgspec.json.decode(data, type=Payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Without "from": the decoder's text may quote the payload.
        raise SealedFormatError(
            "payload", "not a JSON object of type 'vault' or 'envelope' with its members"
        ) from None
    if payload.version != VERSION:
        raise SealedFormatError("payload", f"the version is not {VERSION}")
    return payload


def members_of(found: Mapping[str, msgspec.Raw]) -> dict[str, bytes]:
    """Return the members of a JSON object with the JSON text of each value."""
    return {name: bytes(value) for name, value in found.items()}
