"""The packet in a layer's annotation: which key wraps the layer's options, and how.

Versions 1 and 2 of guest-components ``confidential-data-hub/hub/src/image/annotation_packet``.
Nothing tells them apart: a packet of version 1 is one of version 2 with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from keywrap.encoding import from_base64
from keywrap.errors import PacketFormatError, PacketRefusedError

MAX_PACKET: Final = 64 * 1024  # bytes; real ones have about 500
VERSION: Final = "0.1.0"
KBS_PROVIDER: Final = "kbs"
KBS_SCHEME: Final = "kbs://"


class WrapType(StrEnum):
    """How the options are encrypted."""

    A256GCM = "A256GCM"
    A256CTR = "A256CTR"  # nothing authenticates what it encrypts

    @property
    def iv_bytes(self) -> int:
        """Length of its initialisation vector."""
        return 12 if self is WrapType.A256GCM else 16


class _Packet(msgspec.Struct):
    kid: str
    wrapped_data: str
    version: str = VERSION
    provider: str = KBS_PROVIDER
    iv: str | None = None
    wrap_type: str | None = None
    provider_settings: dict[str, msgspec.Raw] = {}
    annotations: dict[str, msgspec.Raw] = {}


@dataclass(frozen=True, slots=True)
class KbsWrapping:
    """How a packet of provider ``kbs`` is opened. Lengths are right."""

    wrap_type: WrapType
    iv: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class AnnotationPacket:
    """A packet as it was written. Only its form has been judged."""

    version: str
    provider: str
    kid: str
    wrapped: bytes
    iv: bytes | None
    wrap_type: str | None

    @property
    def kek_uri(self) -> str:
        """The resource URI of the key encryption key, not yet judged.

        The key provider of v0.21 writes paths without a scheme, which its own hub refuses; here
        they are what they were before: ``/a/b/c`` is ``kbs:///a/b/c``.
        """
        return f"{KBS_SCHEME}{self.kid}" if self.kid.startswith("/") else self.kid

    def kbs_wrapping(self) -> KbsWrapping:
        """Judge the packet as one whose key lies with the key broker.

        Raises :class:`PacketRefusedError` for another provider, version or way to wrap, and
        :class:`PacketFormatError` for what such a packet has to have.
        """
        if self.provider != KBS_PROVIDER:
            raise PacketRefusedError("provider", self.provider, expected=KBS_PROVIDER)
        if self.version != VERSION:
            raise PacketRefusedError("version", self.version, expected=VERSION)
        if self.iv is None:
            raise PacketFormatError("iv", "missing")
        if self.wrap_type is None:
            raise PacketFormatError("wrap_type", "missing")
        try:
            wrap_type = WrapType(self.wrap_type)
        except ValueError:
            expected = " or ".join(WrapType)
            raise PacketRefusedError("wrap_type", self.wrap_type, expected=expected) from None
        if len(self.iv) != wrap_type.iv_bytes:
            problem = f"{wrap_type} needs {wrap_type.iv_bytes} bytes, got {len(self.iv)}"
            raise PacketFormatError("iv", problem)
        return KbsWrapping(wrap_type, self.iv, self.wrapped)


def parse_packet(data: bytes) -> AnnotationPacket:
    """Parse a packet. Unknown members are ignored. Raises :class:`PacketFormatError` only."""
    if len(data) > MAX_PACKET:
        raise PacketFormatError("JSON", f"longer than {MAX_PACKET} bytes")
    try:
        packet = msgspec.json.decode(data, type=_Packet)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without "from": the decoder's text may quote the packet.
        raise PacketFormatError("JSON", "not an object with kid and wrapped_data") from None
    wrapped = from_base64(packet.wrapped_data)
    if not wrapped:
        raise PacketFormatError("wrapped_data", "not standard base64 with padding")
    iv = None if packet.iv is None else from_base64(packet.iv)
    if iv is None and packet.iv is not None:
        raise PacketFormatError("iv", "not standard base64 with padding")
    return AnnotationPacket(
        packet.version, packet.provider, packet.kid, wrapped, iv, packet.wrap_type
    )
