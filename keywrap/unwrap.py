"""Opening a wrapped key with the key encryption key. Source: guest-components ``deps/crypto``."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from keywrap.content import open_content
from keywrap.errors import KekError, WrappedKeyError
from keywrap.packet import AnnotationPacket, WrapType, parse_packet
from secrecy import Secret

KEK_BYTES: Final = 32


class KekSource(Protocol):
    """Whoever can get a key encryption key."""

    async def __call__(self, uri: str, /) -> Secret:
        """Return what ``uri``, the text of a resource URI, names. The caller wipes it."""


async def open_packet(data: bytes, kek_source: KekSource) -> Secret:
    """Parse a packet, get its key, and return the private options that it wraps.

    No key is asked for before everything else about the packet has been judged. Raises
    :class:`~keywrap.errors.KeywrapError` and whatever ``kek_source`` raises.
    """
    packet = parse_packet(data)
    packet.kbs_wrapping()
    kek = await kek_source(packet.kek_uri)
    try:
        return unwrap(packet, kek)
    finally:
        kek.wipe()


def unwrap(packet: AnnotationPacket, kek: Secret) -> Secret:
    """Return the private options that ``packet`` wraps.

    A256GCM authenticates them. A256CTR does not; there, what is no JSON object is refused, which
    is what a wrong key looks like. Raises :class:`~keywrap.errors.KeywrapError`; whatever is wrong
    with key, vector, tag or data is one and the same error.
    """
    wrapping = packet.kbs_wrapping()
    if len(kek) != KEK_BYTES:
        raise KekError(packet.kid, len(kek), KEK_BYTES)
    options = open_content(wrapping.wrap_type, kek, wrapping.iv, wrapping.wrapped)
    if options is None or (wrapping.wrap_type is WrapType.A256CTR and not _is_object(options)):
        raise WrappedKeyError(packet.kid)
    return options


def _is_object(options: Secret) -> bool:
    try:
        msgspec.json.decode(options.reveal(), type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
